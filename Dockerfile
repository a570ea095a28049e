# syntax=docker/dockerfile:1
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN sh deploy/install.sh /opt/rapport
# Refused where the configuration has a mistake, or nobody but its author approved it.
RUN sh deploy/publish.sh /opt/rapport config /etc/rapport/configuration.json

FROM python:3.11-slim
# LightGBM needs the OpenMP runtime.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 rapport
COPY --from=build /opt/rapport /opt/rapport
COPY --from=build /etc/rapport /etc/rapport
ENV NUMBA_CACHE_DIR=/opt/rapport/kernels PYTHONUNBUFFERED=1
USER rapport
WORKDIR /etc/rapport
EXPOSE 50051
# REDIS_URL names the store, /etc/rapport/callers.yaml (mounted) who may call.
ENTRYPOINT ["/opt/rapport/bin/rapport"]
CMD ["serve", "--config", "/etc/rapport/configuration.json", "--listen", "0.0.0.0:50051", "--callers", "/etc/rapport/callers.yaml"]
