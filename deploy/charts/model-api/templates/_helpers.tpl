{{/* The name of everything: the release's, with the chart's when it is not part of it. 40 characters leave room for suffixes. */}}
{{- define "model-api.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc 30 | trimSuffix "-") .Chart.Name -}}
{{- end -}}
{{- end -}}

{{/* Labels that select everything of this release. They never change: selectors are immutable. */}}
{{- define "model-api.releaseLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Labels that select the pods that serve. */}}
{{- define "model-api.apiLabels" -}}
{{ include "model-api.releaseLabels" . }}
app.kubernetes.io/component: api
{{- end -}}

{{/* Labels that select the pod of Redis. */}}
{{- define "model-api.redisLabels" -}}
{{ include "model-api.releaseLabels" . }}
app.kubernetes.io/component: redis
{{- end -}}

{{/* Labels of objects, beside the ones above. Pods do not get the chart's version: a new chart alone restarts nothing. */}}
{{- define "model-api.objectLabels" -}}
app.kubernetes.io/part-of: mlops-dags
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* The image's tag, which must be given. */}}
{{- define "model-api.tag" -}}
{{- required "image.tag is empty: give the git commit that the images api and steps were built from (--set-string image.tag=<commit>)" .Values.image.tag -}}
{{- end -}}

{{/* model.version as text: a number from a values file is a float, and 1000000 would become 1e+06. */}}
{{- define "model-api.givenVersion" -}}
{{- if kindIs "string" .Values.model.version -}}
{{- .Values.model.version -}}
{{- else -}}
{{- int64 .Values.model.version -}}
{{- end -}}
{{- end -}}

{{/* What the cluster has of a rollout's three fields, as YAML; empty where nothing is installed or helm cannot look. */}}
{{- define "model-api.live" -}}
{{- $deployment := lookup "apps/v1" "Deployment" .Release.Namespace (include "model-api.fullname" .) | default dict -}}
{{- $version := "" -}}
{{- range dig "spec" "template" "spec" "initContainers" (list) $deployment -}}
{{- if eq .name "fetch-model" -}}
{{- range .env -}}
{{- if eq .name "MLOPS_MODEL_VERSION" -}}{{- $version = .value -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- dict
  "version" $version
  "given" (dig "metadata" "annotations" "mlops/given-model-version" "" $deployment)
  "cause" (dig "metadata" "annotations" "kubernetes.io/change-cause" "" $deployment)
| toYaml -}}
{{- end -}}

{{/*
The version to serve. Rollouts own it: the live one stays, unless this upgrade is given another than the last one was
(kept in the annotation mlops/given-model-version). Helm repeats old values when an upgrade is given none, so "given"
alone would take every rollout back.
*/}}
{{- define "model-api.version" -}}
{{- $given := include "model-api.givenVersion" . -}}
{{- $live := include "model-api.live" . | fromYaml -}}
{{- if and $live.version (or (not $given) (eq $given $live.given)) -}}
{{- $live.version -}}
{{- else -}}
{{- required (printf "model.version is empty and no Deployment %s is live in namespace %s to take it from: give the version of %s to serve (--set model.version=<number>)" (include "model-api.fullname" .) .Release.Namespace .Values.model.name) $given -}}
{{- end -}}
{{- end -}}

{{/* Why this version, for `kubectl rollout history`: the rollout's words stay as long as its version does. */}}
{{- define "model-api.changeCause" -}}
{{- $live := include "model-api.live" . | fromYaml -}}
{{- $version := include "model-api.version" . -}}
{{- if and $live.cause (eq $version $live.version) -}}
{{- $live.cause -}}
{{- else -}}
{{- printf "%s %s, set by helm" .Values.model.name $version -}}
{{- end -}}
{{- end -}}

{{/* Settings of the process, for the ConfigMap and for the checksum that restarts the pods when one changes. */}}
{{- define "model-api.settings" -}}
{{- $settings := dict
  "MLOPS_REDIS_URL" (printf "redis://%s-redis:6379/0" (include "model-api.fullname" .))
  "MLOPS_DRAIN_SECONDS" (toString .Values.api.drainSeconds)
  "MLOPS_MLFLOW_TRACKING_URI" .Values.mlflow.trackingUri
-}}
{{- merge $settings .Values.api.settings | toYaml -}}
{{- end -}}

{{/* The Secret that holds the password of Redis. */}}
{{- define "model-api.redisSecret" -}}
{{- .Values.redis.existingSecret | default (printf "%s-redis" (include "model-api.fullname" .)) -}}
{{- end -}}

{{/* Where the password of Redis is: the source of an environment variable. */}}
{{- define "model-api.redisPassword" -}}
secretKeyRef:
  name: {{ include "model-api.redisSecret" . | quote }}
  key: {{ ternary .Values.redis.existingSecretKey "password" (ne .Values.redis.existingSecret "") | quote }}
{{- end -}}

{{/* Pod Security level "restricted", for every container, and a root file system that nobody writes to. */}}
{{- define "model-api.lockedDown" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* What every pod has: no token, no variables of other Services, the registry's Secrets. */}}
{{- define "model-api.podDefaults" -}}
serviceAccountName: {{ include "model-api.fullname" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Values that contradict each other, said before anything is installed. */}}
{{- define "model-api.check" -}}
{{- $api := .Values.api -}}
{{- if not (regexMatch "^[a-z]" (include "model-api.fullname" .)) -}}
{{- fail (printf "%s cannot be the name of a Service, which must start with a letter: choose another release name, or set fullnameOverride" (include "model-api.fullname" .)) -}}
{{- end -}}
{{- $needed := add $api.preStopSeconds $api.drainSeconds 10 -}}
{{- if lt (int64 $api.terminationGracePeriodSeconds) $needed -}}
{{- fail (printf "api.terminationGracePeriodSeconds is %d, but the pause (%d s), the draining (%d s) and 10 s for what is in flight need %d: requests would be cut off" (int64 $api.terminationGracePeriodSeconds) (int64 $api.preStopSeconds) (int64 $api.drainSeconds) $needed) -}}
{{- end -}}
{{- if le (int64 $api.progressDeadlineSeconds) (add $api.minReadySeconds .Values.model.waitSeconds) -}}
{{- fail (printf "api.progressDeadlineSeconds is %d, but a pod may wait %d s for MLflow (model.waitSeconds) and counts as available %d s after it is ready (api.minReadySeconds): a rollout would count as failed while it still waits" (int64 $api.progressDeadlineSeconds) (int64 .Values.model.waitSeconds) (int64 $api.minReadySeconds)) -}}
{{- end -}}
{{- if gt (int64 .Values.autoscaling.minReplicas) (int64 .Values.autoscaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas is %d, above autoscaling.maxReplicas, %d" (int64 .Values.autoscaling.minReplicas) (int64 .Values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}
