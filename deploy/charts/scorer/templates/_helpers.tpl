{{/* The name of everything: the release's, with the chart's when it is not part of it. 40 characters leave room for suffixes. */}}
{{- define "scorer.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc 30 | trimSuffix "-") .Chart.Name -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the pods of this release. They never change: selectors are immutable. */}}
{{- define "scorer.podLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Labels of objects, beside the ones above. Pods do not get the chart's version: a new chart alone restarts nothing. */}}
{{- define "scorer.objectLabels" -}}
app.kubernetes.io/part-of: mlops-dags
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* The images' tag, which must be given. */}}
{{- define "scorer.tag" -}}
{{- required "image.tag is empty: give the git commit that the images were built from (--set-string image.tag=<commit>)" .Values.image.tag -}}
{{- end -}}

{{/* Settings of the process, for the ConfigMap and for the checksum that restarts the pods when one changes. */}}
{{- define "scorer.settings" -}}
{{- dict
  "MLOPS_KAFKA_BOOTSTRAP" .Values.kafka.bootstrap
  "MLOPS_TRANSACTIONS_TOPIC" .Values.kafka.transactionsTopic
  "MLOPS_PREDICTIONS_TOPIC" .Values.kafka.predictionsTopic
  "MLOPS_DEAD_LETTER_TOPIC" .Values.kafka.deadLetterTopic
  "MLOPS_MODEL_API_URL" .Values.modelApi.url
| toYaml -}}
{{- end -}}

{{/* Pod Security level "restricted", for every container, and a root file system that nobody writes to. */}}
{{- define "scorer.lockedDown" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The user of every pod. */}}
{{- define "scorer.user" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* What every pod has: no token, no variables of other Services, the registry's Secrets. */}}
{{- define "scorer.podDefaults" -}}
serviceAccountName: {{ include "scorer.fullname" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The init container that creates the topics. */}}
{{- define "scorer.topics" -}}
- name: topics
  image: "{{ .Values.image.steps }}:{{ include "scorer.tag" . }}"
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [python, -m, include.streaming.topics]
  args:
    - --partitions
    - {{ .Values.topics.partitions | quote }}
    - --replication
    - {{ .Values.topics.replication | quote }}
  env:
    - name: HOME
      value: /tmp
  envFrom:
    - configMapRef:
        name: {{ include "scorer.fullname" . }}
  terminationMessagePolicy: FallbackToLogsOnError
  resources:
    {{- toYaml .Values.scorer.topicsResources | nindent 4 }}
  securityContext:
    {{- include "scorer.lockedDown" . | nindent 4 }}
  volumeMounts:
    - name: tmp
      mountPath: /tmp
{{- end -}}

{{/* The claim that holds the checkpoint. */}}
{{- define "scorer.checkpointClaim" -}}
{{- .Values.spark.checkpoint.existingClaim | default (printf "%s-checkpoint" (include "scorer.fullname" .)) -}}
{{- end -}}

{{/* Values that contradict each other, said before anything is installed. */}}
{{- define "scorer.check" -}}
{{- $scorer := .Values.scorer -}}
{{- $needed := add $scorer.drainSeconds 5 -}}
{{- if lt (int64 $scorer.terminationGracePeriodSeconds) $needed -}}
{{- fail (printf "scorer.terminationGracePeriodSeconds is %d, but the draining (%d s) and 5 s for the last commit need %d: what was scored would be scored again" (int64 $scorer.terminationGracePeriodSeconds) (int64 $scorer.drainSeconds) $needed) -}}
{{- end -}}
{{- if and .Values.topics.create (gt (int64 $scorer.replicas) (int64 .Values.topics.partitions)) -}}
{{- fail (printf "scorer.replicas is %d, but a topic of %d partitions (topics.partitions) has work for %d" (int64 $scorer.replicas) (int64 .Values.topics.partitions) (int64 .Values.topics.partitions)) -}}
{{- end -}}
{{- $topics := list .Values.kafka.transactionsTopic .Values.kafka.predictionsTopic .Values.kafka.deadLetterTopic -}}
{{- if ne (len (uniq $topics)) 3 -}}
{{- fail (printf "the topics %s are not three: what is read would be what was written; give kafka.transactionsTopic, kafka.predictionsTopic and kafka.deadLetterTopic different names" (join ", " $topics)) -}}
{{- end -}}
{{- end -}}

{{/* What the driver and the executors of a SparkApplication have in common. */}}
{{- define "scorer.sparkPod" -}}
labels:
  {{- include "scorer.podLabels" . | nindent 2 }}
  app.kubernetes.io/part-of: mlops-dags
envFrom:
  - configMapRef:
      name: {{ include "scorer.fullname" . }}
env:
  - name: HOME
    value: /tmp
podSecurityContext:
  {{- include "scorer.user" . | nindent 2 }}
securityContext:
  {{- include "scorer.lockedDown" . | nindent 2 }}
volumeMounts:
  - name: checkpoint
    mountPath: /checkpoint
  - name: tmp
    mountPath: /tmp
{{- end -}}
