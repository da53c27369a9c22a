# voxbench in a container: docs/how-to/container.md

FROM python:3.12-slim-trixie AS build
# What to install: `predict`, `cpu` (measuring too), or `gpu`, `gpu-trt10`, `gpu-rtx` (docs/how-to/gpu.md).
ARG EXTRAS=predict
# A further package index, which pip reads from here: where PyTorch for CPUs is, a tenth as large as that for CUDA.
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv --without-pip /opt/voxbench && mkdir -p /cache
WORKDIR /src
COPY constraints.txt ./
# The extras for GPUs say themselves which PyTorch they want.
RUN case "$EXTRAS" in gpu*) sed -i -E '/^(torch|triton)==/d' constraints.txt ;; esac
COPY pyproject.toml README.md LICENSE ./
COPY bench bench
COPY engines engines
COPY models models
COPY reports reports
RUN pip --python /opt/voxbench/bin/python install --constraint constraints.txt ".[$EXTRAS]"

FROM python:3.12-slim-trixie
LABEL org.opencontainers.image.title="voxbench" \
      org.opencontainers.image.description="Times trained 3D networks, says which is faster and as accurate, and runs it" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/voxbench /opt/voxbench
COPY --from=build --chown=10001:10001 /cache /cache
ENV PATH=/opt/voxbench/bin:$PATH VOXBENCH_CACHE=/cache
VOLUME /cache
# A number, so that a cluster can see that it is not root.
USER 10001:10001
ENTRYPOINT ["bench"]
CMD ["--help"]
