"""What an error of an engine means: short memory, or a GPU that this process has lost."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory did not suffice, on a GPU or on the CPU.

    The error's text is looked at, because only torch's error for a GPU has a type of its own. The
    CPU allocator of torch, oneDNN and OpenVINO raise a RuntimeError, each with other words.
    """
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return any(
        sign in text
        for sign in (
            *("can't allocate memory", "bad_alloc", "out of memory", "bad allocation"),
            *("cublas_status_alloc_failed", "cudnn_status_alloc_failed"),
            "cusolver_status_alloc_failed",
        )
    )


def is_lasting(error: BaseException) -> bool:
    """Whether an error leaves a GPU unusable for this process, whatever it computes next.

    After an illegal access, a failed assertion on the device or a card that fell off the bus, each
    later call of CUDA raises that error again; only a new process has a working context.
    """
    text = str(error).lower()
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    return "cuda error" in text or "cuda driver error" in text or "device-side assert" in text
