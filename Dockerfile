# A worker or a submitter: the entry point is `mtl`. The backbone's weights and the shipped model are
# inside, so nothing is fetched at run time.
FROM python:3.11-slim-bookworm AS build
# torch==2.13.0 from the default index brings CUDA. For a CPU image give the index of CPU wheels,
# for example: --build-arg PIP_EXTRA_ARGS="--extra-index-url <index of CPU wheels>".
ARG PIP_EXTRA_ARGS=""
WORKDIR /src
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Dependencies first: this layer stays as long as these two files do.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print('\n'.join(p['dependencies'] + p['optional-dependencies']['openvino']))" > requirements.txt \
    && pip install $PIP_EXTRA_ARGS -c constraints.txt -r requirements.txt "setuptools>=77"
COPY README.md LICENSE ./
COPY mtl_core mtl_core
COPY jobs jobs
COPY worker worker
RUN pip install --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 mtl \
    && useradd --uid 10001 --gid mtl --home-dir /state --no-create-home mtl \
    && mkdir -p /data /state \
    && chown mtl:mtl /data /state
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MTL_STATE_DIR=/state \
    HF_HOME=/tmp/huggingface
COPY --from=build /opt/venv /opt/venv
WORKDIR /data
VOLUME ["/data", "/state"]
USER 10001
ENTRYPOINT ["mtl"]
CMD ["worker"]
