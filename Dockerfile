# syntax=docker/dockerfile:1
# The service in a container. It listens to others, so it wants an API key before it starts:
#   docker build -t geounet .
#   docker run --rm -v maps:/data geounet geounet keys new me --data /data
#   docker run -p 8000:8000 -v maps:/data geounet
#
# TORCH_PIP_ARGS picks the torch variant: pip options that choose where the wheels of torch AND torchvision come from.
# Both must come from one place; a CPU-only torch beside a CUDA torchvision does not import.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG TORCH_PIP_ARGS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/geounet
WORKDIR /src
COPY constraints.txt ./
RUN /opt/geounet/bin/pip install --constraint constraints.txt ${TORCH_PIP_ARGS} torch torchvision
COPY pyproject.toml README.md LICENSE ./
COPY tiles tiles
COPY geounet geounet
COPY api api
RUN /opt/geounet/bin/pip install --constraint constraints.txt ".[openvino]"

FROM python:${PYTHON}-slim AS run
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libexpat1 libgomp1 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/geounet /opt/geounet
# Compiled kernels and converted models are kept under /data, the one place that is written to.
ENV PATH=/opt/geounet/bin:$PATH \
    GEOUNET_CACHE=/data/cache \
    NUMBA_CACHE_DIR=/data/cache/numba \
    PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 10001 geounet && install -d -o geounet -g geounet /data
USER geounet
VOLUME /data
WORKDIR /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["geounet", "serve", "--host", "0.0.0.0", "--port", "8000", "--data", "/data"]
