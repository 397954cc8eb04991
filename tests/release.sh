#!/usr/bin/env bash
# The release, really made: version from the tag, sdist and wheel by `python -m build`, the wheel alone
# into an empty environment, a file labelled there. Works on what is committed.
#
#   bash tests/release.sh        # after `make setup-dev`
set -euo pipefail
cd "$(dirname "$0")/.."
ROOT=$PWD
PYTHON=$ROOT/.venv/bin/python
WORK=$(mktemp -d)
trap '[ $? = 0 ] || tail -20 "$WORK/log"; rm -rf "$WORK"' EXIT
started=$SECONDS
say() { printf 'ok   %4d s  %s\n' $((SECONDS - started)) "$1"; }

git clone --quiet --no-local "$ROOT" "$WORK/tagged"
git -C "$WORK/tagged" -c user.name=x -c user.email=x@localhost tag -a v98.7.6 -m test
"$PYTHON" -m build --outdir "$WORK/dist" "$WORK/tagged" >"$WORK/log" 2>&1
wheel=$WORK/dist/mtl_batch-98.7.6-py3-none-any.whl
[ -f "$wheel" ] && [ -f "$WORK/dist/mtl_batch-98.7.6.tar.gz" ]
say "tag v98.7.6: $(cd "$WORK/dist" && du -h -- * | sed 's/\t/ /' | paste -sd,)"

# An archive, as a page of releases offers it, has no git; it holds the tag's name all the same.
mkdir "$WORK/archive"
git -C "$WORK/tagged" archive HEAD | tar -xf - -C "$WORK/archive"
"$PYTHON" -m pip --quiet wheel --no-deps --wheel-dir "$WORK/archive-dist" "$WORK/archive" 2>"$WORK/log"
[ -f "$WORK/archive-dist/mtl_batch-98.7.6-py3-none-any.whl" ]
# Nor does the folder of a checkout that was copied without git.
rm -r "$WORK/archive"/{.git_archival.txt,build,*.egg-info}
"$PYTHON" -m pip --quiet wheel --no-deps --wheel-dir "$WORK/plain-dist" "$WORK/archive" 2>"$WORK/log"
[ "$(ls "$WORK/plain-dist")" = mtl_batch-0.1.0-py3-none-any.whl ]
say "archive without git: 98.7.6; without a tag's name: the fallback"

"$PYTHON" -m venv "$WORK/venv"
# What is used gets its bytecode then; all of it takes a minute.
"$WORK/venv/bin/pip" install --quiet --no-compile --constraint constraints.txt "$wheel" 2>"$WORK/log"
say "the wheel alone in an empty environment, $(du -sm "$WORK/venv" | cut -f1) MB"

cp examples/sentences.csv "$WORK/in.csv"
cd "$WORK"
unset "${!MTL_@}"
export MTL_STATE_DIR=$WORK/state HF_HUB_OFFLINE=1
mtl=$WORK/venv/bin/mtl
[ "$("$mtl" --version)" = "mtl, version 98.7.6" ]
"$mtl" label in.csv -o out --quiet
"$mtl" verify out
say "it labels"
echo "release: $((SECONDS - started)) s"
