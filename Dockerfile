# syntax=docker/dockerfile:1
# The image of the steps: `docker build --target steps --build-arg COMMIT=$(git rev-parse HEAD) -t mlops-dags/steps:$(git rev-parse HEAD) .`
# A step of one commit refuses to run for a DAG of another; COMMIT is how it knows its own.

FROM python:3.11-slim-bookworm AS dependencies
RUN pip install --no-cache-dir uv==0.13.8
COPY requirements-steps.txt .
RUN uv venv /opt/venv && uv pip sync --no-cache --python /opt/venv/bin/python requirements-steps.txt

FROM python:3.11-slim-bookworm AS steps
COPY --from=dependencies /opt/venv /opt/venv
COPY include/__init__.py include/code_version.py include/command.py include/progress.py include/settings.py /app/include/
COPY include/fraud /app/include/fraud
ARG COMMIT
RUN test -n "$COMMIT" || { echo "COMMIT is empty: --build-arg COMMIT=\$(git rev-parse HEAD)" >&2; exit 1; }
ENV MLOPS_CODE_VERSION=$COMMIT PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 65532:65532
ENTRYPOINT []
CMD ["python", "-c", "print('one step: python -m include.<room>.<step> --help')"]
