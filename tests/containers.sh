#!/usr/bin/env bash
# The image and the compose file, really built and run; a line for each thing shown, with its seconds.
#
#   bash tests/containers.sh
#
# Needs Docker with compose. Without it, a script named by MTL_CONTAINER_RECIPE (else the one at
# ../shared/containers/recipe.sh) may stand in for it: `SCRIPT build DIR`, `compose DIR ARGS…`,
# `podman ARGS…`, `setup`, `stop`. With neither it says so and passes.
set -euo pipefail
cd "$(dirname "$0")/.."

# Rows of the job: so many that the workers are busy while the faults happen, from a rate that is
# measured first. What a wait may last follows from that rate and from how long starting took.
ROWS=${ROWS:-}
RATE_ROWS=600
SHARD_ROWS=200
BAD_EVERY=400
RECIPE=$(realpath -m "${MTL_CONTAINER_RECIPE:-../shared/containers/recipe.sh}")
IMAGE=mtl-batch:test
PROJECT=mtl-batch-test

if docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1; then
    engine=docker
elif [ -f "$RECIPE" ] && [ "$(id -u)" = 0 ]; then
    engine=recipe
else
    echo "containers: skipped, neither Docker nor a stand-in for it ($RECIPE) is here"
    exit 0
fi

WORK=$(mktemp -d)
passed=0
export COMPOSE_PROJECT_NAME=$PROJECT COMPOSE_FILE=$PWD/docker-compose.yml:$WORK/test.yml
export MTL_REDIS_PASSWORD=only-in-this-test MTL_THREADS=1 MTL_VERSION=0.0.0+test
unset MTL_DATA MTL_USER MTL_ROOTS MTL_PRECISION

compose() { # compose ARGS…: on this stack
    if [ $engine = docker ]; then docker compose "$@"; else bash "$RECIPE" compose . "$@"; fi
}
container() { # container ARGS…: the engine's own command
    if [ $engine = docker ]; then docker "$@"; else bash "$RECIPE" podman "$@"; fi
}
build() { # build FOLDER TAG
    export TEST_IMAGE=$2
    if [ $engine = docker ]; then docker compose build worker; else bash "$RECIPE" build "$1"; fi
}
in_image() { # in_image PROGRAM ARGS…: a container of its own on the data volume, without a network
    container run --rm --init --network none --read-only --tmpfs /tmp -v ${PROJECT}_data:/data \
        --entrypoint "$1" $IMAGE "${@:2}"
}

check() { # check WHAT COMMAND…: run it; say how long it took, or what it printed
    local what=$1 started=$SECONDS
    shift
    if "$@" >"$WORK/log" 2>&1; then
        printf 'ok   %4d s  %s\n' $((SECONDS - started)) "$what"
        passed=$((passed + 1))
    else
        printf 'FAIL %4d s  %s\n' $((SECONDS - started)) "$what"
        compose logs --tail 30 2>/dev/null || true
        printf '%s\n' "the submitter:" && tail -20 "$WORK/submit" 2>/dev/null || true
        printf '%s\n' "what failed, $what:" && tail -40 "$WORK/log"
        echo "$passed passed, 1 failed"
        exit 1
    fi
}
within() { # within SECONDS COMMAND…: until it succeeds
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $until ] || return 1
        sleep 0.5
    done
}

clean() {
    compose --profile '*' down --volumes --timeout 5 >/dev/null 2>&1 || true
    [ $engine = docker ] || bash "$RECIPE" stop >/dev/null 2>&1 || true
    rm -rf "$WORK"
}
trap clean EXIT

# For the test: its own image, quicker health checks. The GPU's image is not built: it is gigabytes.
cat >"$WORK/test.yml" <<'Y'
x-quick: &quick
  image: ${TEST_IMAGE}
  healthcheck:
    test: [CMD, mtl, worker, --check]
    interval: 8s
    timeout: 20s
    retries: 8
services:
  worker: *quick
  trainer: *quick
  mtl: {image: "${TEST_IMAGE}"}
  gpu: {build: !reset null}
Y
# Names within a stack are not reliable on the stand-in: addresses are given.
[ $engine = docker ] || cat >"$WORK/addresses.yml" <<'Y'
x-redis: &redis {extra_hosts: ["redis:10.89.91.10"]}
services:
  redis: {networks: {default: {ipv4_address: 10.89.91.10}}}
  worker: *redis
  trainer: *redis
  mtl: *redis
networks: {default: {ipam: {config: [{subnet: 10.89.91.0/24}]}}}
Y
[ $engine = docker ] || COMPOSE_FILE+=:$WORK/addresses.yml

# --- the files

lint() {
    if [ $engine = recipe ]; then
        bash "$RECIPE" lint . | tee "$WORK/lint"
        ! grep '^Dockerfile:' "$WORK/lint" # hadolint's warnings, too
    else
        ! command -v hadolint || hadolint Dockerfile
        docker compose --profile '*' config --quiet
    fi
}
no_password() { ! MTL_REDIS_PASSWORD='' compose config --quiet 2>"$WORK/refused" && grep -q .env "$WORK/refused"; }

# --- the image

image_is_as_said() {
    in_image sh -c 'test "$(id -u)" = 10001 && ls -d /state/engines/openvino-*-0.0.0+test' &&
        test "$(in_image mtl --version)" = "mtl, version 0.0.0+test" &&
        container inspect -f '{{index .Config.Labels "org.opencontainers.image.version"}}' $IMAGE |
        grep -qx '0.0.0+test' &&
        container run --rm --user 4242:4242 --network none --read-only -v ${PROJECT}_data:/data \
            -v ${PROJECT}_state:/state --entrypoint sh $IMAGE -c 'touch /data/x /state/x /state/engines/x && rm /data/x'
}
change_code() {
    mkdir "$WORK/changed"
    tar -cf - --exclude=__pycache__ Dockerfile docker-compose.yml .dockerignore docker pyproject.toml \
        constraints.txt README.md LICENSE mtl_core jobs worker | tar -xf - -C "$WORK/changed"
    echo "# changed" >>"$WORK/changed/jobs/__init__.py"
}
rebuild() (
    cd "$WORK/changed"
    export COMPOSE_FILE=$PWD/docker-compose.yml:$WORK/test.yml
    started=$SECONDS
    build . mtl-batch:test-changed &&
        [ $((SECONDS - started)) -lt 180 ] # installing the dependencies anew takes several minutes
)

# --- the stack

measure_rate() { # one worker's rows a second on one thread, model and start-up left out
    in_image sh -c "
        cd /data && python -c \"
import random
words = 'minister treaty match coach shares profit software planet dull superb tedious charming'.split()
with open('rate.txt', 'w') as file:
    for row in range($RATE_ROWS):
        file.write(' '.join(random.choices(words, k=random.randint(8, 40))) + chr(10))
\" && MTL_STATE_DIR=/data/rate-state MTL_ENGINE_DIR=/state/engines MTL_THREADS=1 mtl label rate.txt -o rate-out --quiet && python -c \"
import json
parts = json.load(open('rate-out/_manifest.json'))['parts']
print(round(sum(p['rows'] for p in parts) / sum(p['seconds']['label'] for p in parts)))
\" && rm -r rate-out rate-state rate.txt" >"$WORK/rate" && [ "$(tail -1 "$WORK/rate")" -gt 0 ]
}
make_input() {
    in_image python -c "
import random
words = 'minister treaty match coach shares profit software planet dull superb tedious charming'.split()
random.seed(1)
with open('/data/in.csv', 'w') as file:
    file.write('key,text\n')
    for row in range($ROWS):
        bad = row % $BAD_EVERY == 7
        text = '' if bad else ' '.join(random.choices(words, k=random.randint(8, 40)))
        file.write(f'k{row},{text}\n')
"
}
train() {
    in_image python -c "
import os, pyarrow as pa, pyarrow.parquet as pq
for folder, split, column, words in (
    ('ag_news', 'train', 'text', ['minister', 'match', 'shares', 'software']),
    ('ag_news', 'test', 'text', ['minister', 'match', 'shares', 'software']),
    ('sst2', 'train', 'sentence', ['dull', 'superb']),
    ('sst2', 'validation', 'sentence', ['dull', 'superb']),
):
    labels = [row % len(words) for row in range(80)]
    os.makedirs(f'/data/made/{folder}', exist_ok=True)
    table = pa.table({column: [f'{words[n]} {i} {split}' for i, n in enumerate(labels)], 'label': labels})
    pq.write_table(table, f'/data/made/{folder}/{split}.parquet')
"
    compose run --rm -T --no-deps mtl train --scenario freeze-backbone --name made --data /data/made --epochs 1 </dev/null
    compose exec -T worker mtl models | grep made
}
workers_running() {
    container ps --filter "label=com.docker.compose.project=$PROJECT" \
        --filter "label=com.docker.compose.service=worker" --format '{{.Names}}' | wc -l
}
parts() { compose exec -T trainer sh -c 'ls /data/out 2>/dev/null | grep -c ^part-' || true; }
parts_done() { [ "$(parts)" -ge "$1" ]; }
queues_are_apart() {
    compose logs worker >"$WORK/workers" && compose logs trainer >"$WORK/trainer" &&
        grep -q exchange=label.high "$WORK/workers" && ! grep -q exchange=train "$WORK/workers" &&
        grep -q exchange=train.high "$WORK/trainer" && ! grep -q exchange=label "$WORK/trainer"
}
hardened() {
    compose exec -T worker sh -c '! touch /opt/app/x 2>/dev/null && ! touch /x 2>/dev/null && id -u' | grep -qx 10001 &&
        compose exec -T worker grep -q '^CapEff:.*0000000000000000$' /proc/self/status
}
not_published() {
    [ -z "$(container ps --filter "label=com.docker.compose.project=$PROJECT" --format '{{.Ports}}' | grep -F -- '->')" ] &&
        compose exec -T -e REDISCLI_AUTH= redis redis-cli ping | grep -q NOAUTH
}
kill_worker_1() { compose exec -T --index 1 worker sh -c 'kill -9 -1' || true; }
came_back() {
    [ "$(container inspect -f '{{.State.Running}}' $PROJECT-worker-1)" = true ] &&
        [ "$(container inspect -f '{{.RestartCount}}' $PROJECT-worker-1)" -ge 1 ]
}
killed_and_back() { kill_worker_1 && within $((30 + 4 * START_S)) came_back; }
scale_away() {
    compose up --detach --no-build --pull never --no-recreate --scale worker=2
    [ "$(workers_running)" = 2 ]
}
submitter_ended() { ! kill -0 "$submitter" 2>/dev/null; }
job_done() { within $JOB_S submitter_ended && wait "$submitter" && in_image test -f /data/out/_SUCCESS; }
still_running() { ! submitter_ended; }

# --- what came out

rows_once() {
    in_image python -c "
import glob, pyarrow.parquet as pq
labelled = pq.ParquetDataset(sorted(glob.glob('/data/out/part-*.parquet'))).read(['row_id', 'key', 'topic'])
bad = pq.read_table(glob.glob('/data/out/errors/*.parquet'), columns=['row_id'])['row_id'].to_pylist()
ids = labelled['row_id'].to_pylist()
assert sorted(ids + bad) == list(range($ROWS)), (len(ids), len(bad))
assert sorted(bad) == list(range(7, $ROWS, $BAD_EVERY)), bad
assert labelled['key'].to_pylist() == [f'k{row}' for row in ids] and labelled['topic'].null_count == 0
"
}
copied_whole() {
    compose cp trainer:/data/out "$WORK/out" && python3 - "$WORK/out" <<'P'
import hashlib, json, pathlib, sys
out = pathlib.Path(sys.argv[1])
parts = json.loads((out / "_manifest.json").read_text())["parts"]
assert parts and len(parts) == len(list(out.glob("part-*.parquet")))
for part in parts:
    assert hashlib.sha256((out / part["part"]).read_bytes()).hexdigest() == part["sha256"], part
P
}
nothing_left() {
    compose --profile '*' down --volumes --timeout 20
    local mine="label=com.docker.compose.project=$PROJECT"
    [ -z "$(container ps -aq --filter "$mine")$(container volume ls -q --filter "$mine")$(container network ls -q --filter "$mine")" ]
}

started=$SECONDS
export TEST_IMAGE=$IMAGE
[ $engine = docker ] || check "the stand-in for Docker is set up" bash "$RECIPE" setup
compose --profile '*' down --volumes >/dev/null 2>&1 || true # of a run that was killed
check "Dockerfile and compose file are clean" lint
check "without a password there is no stack" no_password
check "image built for cpu" build . $IMAGE
check "it runs as 10001, or whom one likes, root read-only, no network; model and graph inside" image_is_as_said
change_code
check "built again after a change of code, without installing the dependencies anew" rebuild
export TEST_IMAGE=$IMAGE
check "one worker's rate is measured" measure_rate
RATE=$(tail -1 "$WORK/rate")
up=$SECONDS
check "up: Redis, 3 workers, a trainer, all healthy" \
    compose up --detach --wait --wait-timeout 600 --no-build --pull never --scale worker=3
START_S=$((SECONDS - up))
# Three restarts come while the job runs; the machine's cores share its work.
BUSY_S=$((60 + 3 * START_S))
CORES=$(nproc)
ROWS=${ROWS:-$((RATE * BUSY_S * (CORES < 3 ? CORES : 3) / SHARD_ROWS * SHARD_ROWS))}
JOB_S=$((120 + 6 * ROWS / RATE))
echo "     one worker labels $RATE rows/s, starting took $START_S s: $ROWS rows, at most $JOB_S s"
check "workers serve label, the trainer train" queues_are_apart
check "read-only, without capabilities, not root" hardened
check "Redis wants its password and is not published" not_published
check "input of $ROWS rows" make_input
compose run --rm -T --no-deps mtl label /data/in.csv -o /data/out --text-column text --shard-rows $SHARD_ROWS \
    >"$WORK/submit" 2>&1 </dev/null &
submitter=$!
check "the job has begun" within $((60 + 6 * START_S + 6 * SHARD_ROWS / RATE)) parts_done 1
check "a worker is SIGKILLed; the restart policy brings it back" killed_and_back
check "a worker is scaled away" scale_away
check "Redis is restarted" compose restart redis
check "… all of it while the job ran (else: set ROWS higher)" still_running
check "the job ends" job_done
check "mtl verify: every row once, every checksum right" in_image mtl verify /data/out
check "every row exactly once, by pyarrow; bad rows in errors/" rows_once
check "the output is copied from the volume, whole" copied_whole
check "the trainer trains a model, which the workers then have" train
check "down --volumes leaves nothing" nothing_left
container rmi mtl-batch:test-changed >/dev/null 2>&1 || true
size=$(container image inspect -f '{{.Size}}' $IMAGE)
echo "containers: $((SECONDS - started)) s by $engine; the image has $((size / 1000000)) MB"
echo "$passed passed, 0 failed"
