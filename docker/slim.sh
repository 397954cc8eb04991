#!/bin/sh
# Removes from a site-packages folder what nothing here runs: C++ headers, static libraries and test
# programs, the packages' own tests, OpenVINO's plugins for Intel's GPUs and NPUs, Arrow's RPC.
set -eu
cd "$1"
rm -rf torch/include torch/share torch/test pyarrow/include pyarrow/src \
    pyarrow/libarrow_flight* pyarrow/libarrow_python_flight* \
    openvino/libs/libopenvino_intel_gpu_plugin.so openvino/libs/libopenvino_intel_npu*
find torch/bin -type f ! -name torch_shm_manager -delete
find . -name '*.a' -delete
find . -mindepth 2 -type d \( -name tests -o -name test \) ! -path './torch/*' -prune -exec rm -r {} +
