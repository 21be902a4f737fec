# The labelling app: one image, an account that is not root, one volume (/data).
#   docker build -t heedful .
#   docker run -p 127.0.0.1:8000:8000 -v heedful:/data -e HEEDFUL_URL=https://labels.example.org heedful
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml label.lock README.md LICENSE ./
COPY src src
# Every file by its hash and none built here, which would fetch what to build it with; then heedful itself, which fetches nothing.
RUN python -m venv /app && /app/bin/pip install --no-cache-dir --only-binary :all: --require-hashes --requirement label.lock
RUN /app/bin/pip install --no-cache-dir --no-index --no-deps --no-build-isolation . && /app/bin/pip uninstall --yes setuptools

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin heedful && install -d -o heedful -g heedful -m 0700 /data
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp HEEDFUL_STORE=/data/heedful.db
USER heedful
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
CMD ["heed", "label", "--host", "0.0.0.0"]
