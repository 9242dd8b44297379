#!/bin/sh
# Run once, by the image, on an empty data directory: a database and its owner for Airflow and for MLflow, one role that
# reads everything for backups, one that restores. Passwords come from files and never stand in a command.
set -eu
for role in airflow mlflow backup restorer; do
    export "${role}_password=$(cat "/run/passwords/$role")"
done
psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres << 'SQL'
\getenv airflow airflow_password
\getenv mlflow mlflow_password
\getenv backup backup_password
\getenv restorer restorer_password
CREATE ROLE airflow LOGIN PASSWORD :'airflow';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE ROLE backup LOGIN BYPASSRLS PASSWORD :'backup' IN ROLE pg_read_all_data;
CREATE ROLE restorer LOGIN CREATEDB PASSWORD :'restorer' IN ROLE airflow, mlflow, pg_signal_backend;
CREATE DATABASE airflow OWNER airflow;
CREATE DATABASE mlflow OWNER mlflow;
SQL
