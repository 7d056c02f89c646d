# The serving image: the rooms and what they stand on, without training frameworks (no torch, no shap).
#
#   docker build -t glasshouse .
#   docker run --read-only --tmpfs /tmp -p 8000:8000 -v /srv/store:/store:ro -v glasshouse-data:/data glasshouse
#
# The base is any Debian bookworm with Python 3.11, venv and the system's certificate authorities.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
# A certificate authority that an operator added to the base is then trusted by pip as well.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY deploy/requirements-build.lock deploy/requirements-serving.lock deploy/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: -r deploy/requirements-build.lock \
    && python3 -m venv /opt/glasshouse \
    && /opt/glasshouse/bin/pip install --require-hashes --only-binary :all: --no-compile -r deploy/requirements-serving.lock
COPY . .
RUN /opt/build/bin/python -m hatchling build -t wheel -d /tmp/wheel \
    && /opt/glasshouse/bin/pip install --no-deps --no-index --no-compile /tmp/wheel/*.whl \
    && /opt/glasshouse/bin/pip check \
    && /opt/glasshouse/bin/pip uninstall --yes --quiet pip setuptools \
    && /opt/glasshouse/bin/python -m compileall -q -j 0 /opt/glasshouse/lib

FROM ${BASE_IMAGE}
COPY --from=build /opt/glasshouse /opt/glasshouse
# A fixed number, so that a volume or a cluster's policy can name it; nothing outside /data and /tmp is ever written.
RUN mkdir /data /store && chown 10001:10001 /data
USER 10001:10001
WORKDIR /data
ENV PATH=/opt/glasshouse/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    GLASSHOUSE_STORE=/store \
    GLASSHOUSE_DATABASE=/data/decisions.sqlite
VOLUME ["/data"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('GLASSHOUSE_PORT', '8000') + '/v2/health/ready', timeout=4)"]
ENTRYPOINT ["glasshouse", "serve", "--host", "0.0.0.0"]
