# syntax=docker/dockerfile:1
# Images, each with only what it needs, all of one commit:
#   docker build --target steps --build-arg COMMIT=$(git rev-parse HEAD) -t mlops-dags/steps:$(git rev-parse HEAD) .
#   docker build --target api   --build-arg COMMIT=$(git rev-parse HEAD) -t mlops-dags/api:$(git rev-parse HEAD) .
#   docker build --target spark --build-arg COMMIT=$(git rev-parse HEAD) -t mlops-dags/spark:$(git rev-parse HEAD) .
# The third is for the scorer as a Spark job only. Targets `airflow` and `mlflow` are built alike, for the cluster.
# A step of one commit refuses to run for a DAG of another; COMMIT is how it knows its own.

FROM python:3.11-slim-bookworm AS uv
RUN pip install --no-cache-dir uv==0.13.8
RUN uv venv /opt/venv
ENV UV_LINK_MODE=copy

FROM uv AS steps-dependencies
COPY requirements-steps.txt .
RUN uv pip sync --no-cache --python /opt/venv/bin/python requirements-steps.txt

FROM uv AS api-dependencies
COPY requirements-api.txt .
RUN uv pip sync --no-cache --python /opt/venv/bin/python requirements-api.txt

FROM python:3.11-slim-bookworm AS base
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 65532:65532
ENTRYPOINT []

# Dependencies first and the commit last: a new commit changes the small layers only.
FROM base AS steps
USER root
# pg_dump and pg_restore, and a server on which each backup is restored. They must be as new as the servers that are
# backed up: --build-arg POSTGRES=17 takes them from the PostgreSQL project's own packages. LOCALES are those of the
# databases, besides C and C.UTF-8 (psql -l shows them).
ARG POSTGRES=15
ARG LOCALES="en_US.UTF-8"
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends ca-certificates locales postgresql-common > /dev/null \
    && for name in $LOCALES; do localedef -i "${name%.*}" -f "${name#*.}" "$name"; done \
    && if [ "$POSTGRES" != 15 ]; then /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y > /dev/null; fi \
    && sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
    && apt-get install -y -qq --no-install-recommends "postgresql-$POSTGRES" > /dev/null \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 65532 --user-group --no-create-home --shell /usr/sbin/nologin steps # initdb asks who it is
USER 65532:65532
COPY --from=steps-dependencies /opt/venv /opt/venv
COPY include/__init__.py include/code_version.py include/command.py include/model_package.py include/progress.py include/settings.py include/
COPY include/fraud include/fraud
COPY include/serving include/serving
COPY include/streaming include/streaming
COPY include/loadtest include/loadtest
COPY include/alerting include/alerting
COPY include/backup include/backup
ARG COMMIT
RUN test -n "$COMMIT" || { echo "COMMIT is empty: --build-arg COMMIT=\$(git rev-parse HEAD)" >&2; exit 1; }
ENV MLOPS_CODE_VERSION=$COMMIT
CMD ["python", "-c", "print('one step: python -m include.<room>.<step> --help')"]

FROM base AS api
COPY --from=api-dependencies /opt/venv /opt/venv
COPY include/__init__.py include/code_version.py include/command.py include/model_package.py include/settings.py include/
# The whole of the model's domain that serving and scoring know.
COPY include/fraud/__init__.py include/fraud/online.py include/fraud/windows.py include/fraud/
COPY include/serving include/serving
COPY include/streaming include/streaming
ARG COMMIT
RUN test -n "$COMMIT" || { echo "COMMIT is empty: --build-arg COMMIT=\$(git rev-parse HEAD)" >&2; exit 1; }
ENV MLOPS_CODE_VERSION=$COMMIT
EXPOSE 8000
CMD ["python", "-m", "include.serving.api", "--model-dir", "/model", "--host", "0.0.0.0", "--port", "8000"]

# Airflow on a cluster: the plugins and what a DAG file imports. No DAGs: they come from git. Steps are pods of the image
# above.
FROM apache/airflow:3.3.2 AS airflow
# Named again, so that pip changes nothing of Airflow itself.
RUN pip install --no-cache-dir apache-airflow==3.3.2 pydantic-settings==2.16.3
COPY plugins plugins

# MLflow's own image has no driver of PostgreSQL and none of S3.
FROM ghcr.io/mlflow/mlflow:v3.17.2 AS mlflow
RUN pip install --no-cache-dir mlflow==3.17.2 psycopg2-binary==2.9.13 boto3==1.43.117

# docker-compose.yaml only: Airflow whose steps are child processes of the scheduler. DAGs are mounted from the checkout.
# Python 3.11, as the lock is for it; all of the lock, as Airflow and the steps share one Python and are tested so.
FROM apache/airflow:3.3.2-python3.11 AS compose-airflow
USER root
# A server on which each backup is restored, of the same version as the stack's own, which has no locale but C.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends postgresql-common > /dev/null \
    && sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
    && if ! apt-cache show postgresql-15 > /dev/null 2>&1; \
        then /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y > /dev/null; fi \
    && apt-get install -y -qq --no-install-recommends postgresql-15 > /dev/null \
    && rm -rf /var/lib/apt/lists/* \
    # A new volume takes owner and mode from here.
    && install -d -o airflow -g 0 -m 775 /lake /backups /scratch /model-api
USER airflow
COPY requirements.txt .
RUN pip install --no-cache-dir --no-deps -r requirements.txt

# docker-compose.yaml only: MLflow with a folder for the artifacts.
FROM mlflow AS compose-mlflow
RUN install -d -o 65532 -g 65532 /artifacts
USER 65532:65532

# docker-compose.yaml only: programs of include/local, the scorer and the inbox. The supervisor of the replicas fetches
# models as a step does and starts the API, so it has what both need.
FROM steps-dependencies AS compose-local-dependencies
COPY requirements-api.txt .
RUN uv pip install --no-cache --python /opt/venv/bin/python -r requirements-api.txt

FROM base AS compose-local
USER root
# Airflow's user: its rollouts and the supervisor write into the same folder.
RUN useradd --uid 50000 --gid 0 --no-create-home --shell /usr/sbin/nologin local \
    && install -d -o local -g 0 -m 775 /model-api /inbox /monitoring
USER 50000:0
COPY --from=compose-local-dependencies /opt/venv /opt/venv
COPY include include

# Last, as a builder without BuildKit makes every stage above the target.
FROM uv AS spark-dependencies
COPY requirements-spark.txt .
RUN uv pip sync --no-cache --python /opt/venv/bin/python requirements-spark.txt
# The connector of Kafka lies beside Spark's own jars: whoever submits needs no --jars.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends maven > /dev/null \
    && rm -rf /var/lib/apt/lists/*
COPY include/streaming/spark /spark
RUN mvn -B -q -ntp -s /spark/settings.xml -f /spark/pom.xml dependency:copy-dependencies \
    -DoutputDirectory="$(/opt/venv/bin/python -c 'import pyspark; print(pyspark.__path__[0])')/jars"

FROM base AS spark
USER root
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless > /dev/null \
    && rm -rf /var/lib/apt/lists/*
COPY --from=spark-dependencies /opt/venv /opt/venv
ENV SPARK_HOME=/opt/venv/lib/python3.11/site-packages/pyspark
COPY include/__init__.py include/code_version.py include/command.py include/settings.py include/
COPY include/fraud/__init__.py include/fraud/online.py include/fraud/windows.py include/fraud/
COPY include/streaming include/streaming
USER 65532:65532
ARG COMMIT
RUN test -n "$COMMIT" || { echo "COMMIT is empty: --build-arg COMMIT=\$(git rev-parse HEAD)" >&2; exit 1; }
ENV MLOPS_CODE_VERSION=$COMMIT
CMD ["python", "-m", "include.streaming.spark_job", "--help"]
