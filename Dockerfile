# One image for every role: `kiebot run`, `kiebot migrate`, `arq workers.settings`, `kiebot simulate ...`.
# Everything installed is pinned by hash; only wheels, so no compiler is needed anywhere.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_ONLY_BINARY=:all:
WORKDIR /src
RUN python -m venv --without-pip /opt/kiebot
COPY requirements.lock requirements-build.lock ./
RUN python -m pip --python /opt/kiebot/bin/python install --require-hashes -r requirements.lock \
 && python -m pip install --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY kiebot kiebot
COPY workers workers
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python -m pip --python /opt/kiebot/bin/python install --no-deps --no-index /wheels/*.whl \
 && /opt/kiebot/bin/python -m compileall -q -j 0 /opt/kiebot/lib

FROM python:3.13-slim
# The user has a name because initdb (`kiebot demo`, embedded stores) looks it up. Results on their way are spooled to
# TMPDIR, which is a directory of the volume rather than memory.
RUN groupadd --gid 10001 kiebot \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/kiebot --no-create-home --shell /usr/sbin/nologin kiebot \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/kiebot /var/lib/kiebot/tmp
COPY --from=build /opt/kiebot /opt/kiebot
ENV PATH=/opt/kiebot/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    KIEBOT_HOME=/var/lib/kiebot \
    TMPDIR=/var/lib/kiebot/tmp
WORKDIR /var/lib/kiebot
USER 10001:10001
EXPOSE 10000
STOPSIGNAL SIGTERM
# A replica without PORT has no web server to ask; its heartbeat row tells the others whether it lives.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; p = os.environ.get('PORT'); p and u.build_opener(u.ProxyHandler({})).open(f'http://127.0.0.1:{p}/healthz', timeout=4)"]
CMD ["kiebot", "run"]
