# A MinIO for development, from its source: MinIO publishes no more images. Any S3 that honours If-None-Match serves as well.
#   docker build -f docker/minio.Dockerfile -t genaug-minio .
ARG GO=docker.io/library/golang:1.26-bookworm
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${GO} AS build
RUN CGO_ENABLED=0 GOBIN=/out go install -trimpath -ldflags "-s -w" github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c

FROM ${BASE}
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin minio && install -d -o 10001 -g 10001 /data
COPY --from=build /out/minio /usr/bin/minio
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
LABEL org.opencontainers.image.title="genaug-minio" org.opencontainers.image.licenses="AGPL-3.0-only"
ENV HOME=/tmp
USER 10001:10001
ENTRYPOINT ["minio"]
