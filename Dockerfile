# One image for worker, trainer and submitter: the entry point is `mtl`. The backbone's weights and the
# shipped model are inside, so nothing is fetched at run time.
#
#   docker build -t mtl-batch:cpu .                    # labels by OpenVINO
#   docker build -t mtl-batch:cuda --target cuda .     # labels and trains by torch on an NVIDIA GPU

FROM python:3.11-slim-bookworm AS base
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
# Any user may be chosen (`--user`), so that files in a mounted folder belong to who wants them.
# The environment holds no pip; it is filled from outside. The program lies beside it, in /opt/app.
RUN groupadd --gid 10001 mtl \
    && useradd --uid 10001 --gid mtl --home-dir /state --no-create-home --shell /usr/sbin/nologin mtl \
    && mkdir -m 1777 /data /state \
    && python -m venv --without-pip /opt/venv \
    && echo /opt/app > /opt/venv/lib/python3.11/site-packages/mtl-batch.pth
ENV PATH=/opt/venv/bin:/opt/app/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HOME=/tmp/huggingface \
    HF_HUB_OFFLINE=1 \
    MTL_STATE_DIR=/state
LABEL org.opencontainers.image.title="mtl-batch" \
      org.opencontainers.image.description="Bulk labelling and training of a shared multi-task sentence model" \
      org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["mtl"]
CMD ["worker"]
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=3 CMD ["mtl", "worker", "--check"]

# What the dependency layers are made from: they stay when pyproject.toml changes elsewhere.
FROM base AS requirements
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; e = p['optional-dependencies']; \
    [open(f, 'w').write('\n'.join(r)) for f, r in {'cpu.txt': p['dependencies'] + e['openvino'], 'cuda.txt': p['dependencies']}.items()]"

FROM base AS dependencies-cpu
COPY --from=requirements /src/constraints.txt /src/cpu.txt /src/
COPY docker/slim.sh /src/
# torch of the package index brings gigabytes of CUDA. Its CPU build comes from where pip has been told
# to look, else from PyTorch's own index, which uv knows.
# hadolint ignore=DL3013
RUN torch=$(grep '^torch==' /src/constraints.txt) \
    && { pip --python /opt/venv/bin/python install --no-deps "$torch+cpu" \
         || { pip install --target /tmp/uv --constraint /src/constraints.txt uv \
              && /tmp/uv/bin/uv pip install --no-cache --python /opt/venv/bin/python --no-deps \
                     --torch-backend cpu "$torch" \
              && rm -r /tmp/uv; }; } \
    && pip --python /opt/venv/bin/python install --constraint /src/constraints.txt --requirement /src/cpu.txt \
    && sh /src/slim.sh /opt/venv/lib/python3.11/site-packages

FROM base AS dependencies-cuda
COPY --from=requirements /src/constraints.txt /src/cuda.txt /src/
COPY docker/slim.sh /src/
RUN pip --python /opt/venv/bin/python install --constraint /src/constraints.txt --requirement /src/cuda.txt \
    && sh /src/slim.sh /opt/venv/lib/python3.11/site-packages

# The shipped model as OpenVINO's graph: else the first worker makes it, with torch, at its first shard.
# Only mtl_core is here, so that this stays when anything else changes.
FROM dependencies-cpu AS graph
COPY mtl_core /opt/app/mtl_core
ARG VERSION=0+unknown
RUN /opt/venv/bin/python -c "import mtl_core; mtl_core.__version__ = '$VERSION'; from pathlib import Path; \
    from mtl_core.engine.openvino_engine import exported_graph; from mtl_core.model.registry import DEFAULT_MODEL, SHIPPED_MODELS; \
    exported_graph(SHIPPED_MODELS / DEFAULT_MODEL, Path('/state/engines'))" \
    && chmod -R a+rwX /state/engines

FROM base AS app
WORKDIR /src
COPY --from=requirements /src/constraints.txt ./
RUN pip install --constraint constraints.txt setuptools setuptools-scm
COPY pyproject.toml README.md LICENSE ./
COPY mtl_core mtl_core
COPY jobs jobs
COPY worker worker
# There is no git here to ask.
ARG VERSION=0+unknown
RUN SETUPTOOLS_SCM_PRETEND_VERSION_FOR_MTL_BATCH=$VERSION \
        pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/venv/bin/python install --no-deps --no-index --target /opt/app /wheels/*.whl

FROM dependencies-cuda AS cuda
COPY --from=app /opt/app /opt/app
VOLUME ["/data", "/state"]
WORKDIR /data
USER 10001:10001
ARG VERSION=0+unknown
LABEL org.opencontainers.image.version="$VERSION"

FROM dependencies-cpu AS cpu
COPY --from=graph /state /state
COPY --from=app /opt/app /opt/app
VOLUME ["/data", "/state"]
WORKDIR /data
USER 10001:10001
ARG VERSION=0+unknown
LABEL org.opencontainers.image.version="$VERSION"
