# The labelling app: one image, an account that is not root, one volume (/data).
#   docker build -t heedful .
#   docker run -p 127.0.0.1:8000:8000 -v heedful:/data -e HEEDFUL_URL=https://labels.example.org heedful
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv /app && /app/bin/pip install --no-cache-dir --constraint constraints.txt '.[label,postgres]'

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin heedful && install -d -o heedful -g heedful -m 0700 /data
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp HEEDFUL_STORE=/data/heedful.db
USER heedful
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
CMD ["heed", "label", "--host", "0.0.0.0"]
