# syntax=docker/dockerfile:1
# One image for everything that runs beside the store: `flagserver web`, `controller`, `run`, and the
# `sortition` command. Built from a checkout: docker build -t sortition .

# --- the two wheels, with the front-end files in them -------------------------------------------
FROM python:3.13-slim AS wheels
WORKDIR /build
COPY requirements/build.txt requirements/node.txt requirements/
RUN pip install --no-cache-dir --require-hashes --no-deps -r requirements/build.txt -r requirements/node.txt
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY sdk sdk
COPY flagserver flagserver
COPY admin admin
RUN python -m build --wheel --no-isolation --outdir /wheels sdk \
    && python -m build --wheel --no-isolation --outdir /wheels .

# --- what they need, exactly as locked -----------------------------------------------------------
FROM python:3.13-slim AS environment
RUN python -m venv /opt/sortition
COPY requirements/runtime.txt .
RUN /opt/sortition/bin/pip install --no-cache-dir --require-hashes --no-deps -r runtime.txt
COPY --from=wheels /wheels /wheels
RUN /opt/sortition/bin/pip install --no-cache-dir --no-deps /wheels/*.whl \
    && rm -rf /opt/sortition/lib/python*/site-packages/pip*

# --- the image -----------------------------------------------------------------------------------
FROM python:3.13-slim
LABEL org.opencontainers.image.title="Sortition" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --home-dir /var/lib/sortition --create-home sortition
COPY --from=environment /opt/sortition /opt/sortition
ENV PATH=/opt/sortition/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SORTITION_HOST=0.0.0.0 \
    SORTITION_PORT=8400 \
    SORTITION_DATA_DIR=/var/lib/sortition
USER sortition
WORKDIR /var/lib/sortition
VOLUME /var/lib/sortition
EXPOSE 8400
# For `web` and `run`; a controller has no port, and compose.yaml switches this off for it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"SORTITION_PORT\"]}/healthz', timeout=2)"]
CMD ["flagserver", "run"]
