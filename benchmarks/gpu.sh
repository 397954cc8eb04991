#!/usr/bin/env bash
# All that is measured on a machine with a GPU, without a network.
#
#   bash benchmarks/gpu.sh WHEELS OUT [DATA]
#
# WHEELS: a folder with the wheels of this project and of all it needs, made where there is a network:
#   pip wheel --wheel-dir WHEELS --constraint constraints.txt '.[bench,dev]'
# OUT: where reports go. DATA: the folder of AG News and SST-2 (made texts, and no whole jobs and no
# training, without). Installs into OUT/venv; SYSTEM=1 takes what the machine's own Python has, such
# as its torch. Without a GPU it rehearses: ROWS=40 RUNS=1 TRAIN_ROWS=40.
set -euo pipefail
wheels=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
data=${3:+$(realpath "$3")}
cd "$(dirname "$0")/.."

"${PYTHON:-python3}" -m venv ${SYSTEM:+--system-site-packages} "$out/venv"
python=$out/venv/bin/python
"$python" -m pip install --quiet --no-index --find-links "$wheels" 'mtl-batch[bench,dev]'
export PYTHONPATH=$PWD  # what is measured is this checkout
{ nvidia-smi || echo "no nvidia-smi"; nproc; } > "$out/machine.txt"

# One that fails does not keep the others from their turn, but from a good end.
failed=0
step() {
    local name=$1
    shift
    echo "== $name" >&2
    "$@" > "$out/$name.txt" 2> "$out/$name.log" || { failed=1 && echo "$name failed: $out/$name.log" >&2; }
}
step tests "$python" -m pytest -m gpu -rs
step gpu "$python" benchmarks/gpu.py --out "$out" ${data:+--data "$data"} --rows "${ROWS:-30000}" --runs "${RUNS:-5}"
if [ -n "$data" ]; then
    step whole_job "$python" benchmarks/whole_job.py --data "$data" --rows "${ROWS:-30000}" --runs 3 engine
    step train "$python" benchmarks/train.py --data "$data" --rows "${TRAIN_ROWS:-2000}" --runs 3
fi
exit "$failed"
