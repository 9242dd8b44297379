{{/* Before `sources`: name, wave. Waves: the numbers of these files. */}}
{{- define "application.head" -}}
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: {{ .name }}
  namespace: argocd
  labels: {app.kubernetes.io/part-of: mlops-dags}
  annotations:
    argocd.argoproj.io/sync-wave: {{ .wave | quote }}
    # The API server says what would change, so defaults that it fills in are no difference.
    argocd.argoproj.io/compare-options: ServerSideDiff=true
spec:
  project: mlops
{{- end -}}

{{/* After `sources`: namespace, options (more of them), labels (of a namespace that nobody else makes). */}}
{{- define "application.tail" -}}
destination: {server: https://kubernetes.default.svc, namespace: {{ .namespace }}}
syncPolicy:
  automated: {prune: true, selfHeal: true}
  retry: {limit: 5, backoff: {duration: 30s, factor: 2, maxDuration: 10m}}
  syncOptions:
    # Large definitions do not fit into the annotation that a client-side apply writes.
    - ServerSideApply=true
    # What is gone from git goes last, after what replaces it is healthy.
    - PruneLast=true
    {{- range .options }}
    - {{ . }}
    {{- end }}
    {{- if .makesNamespace }}
    - CreateNamespace=true
  managedNamespaceMetadata:
    labels: {pod-security.kubernetes.io/enforce: restricted}
    {{- end }}
{{- end -}}

{{/* A source that is a folder of this repository: path, root. */}}
{{- define "application.ours" -}}
repoURL: {{ .root.Values.repository | quote }}
targetRevision: {{ .root.Values.revision | quote }}
path: {{ .path }}
{{- end -}}

{{/* Sources: a chart of other people with its values from this repository; chart, values (files), root. */}}
{{- define "application.theirs" -}}
{{- $pin := index .root.Values.charts .chart -}}
- repoURL: {{ .root.Values.repository | quote }}
  targetRevision: {{ .root.Values.revision | quote }}
  ref: values
- repoURL: {{ $pin.repository | quote }}
  chart: {{ .chart }}
  targetRevision: {{ $pin.version | quote }}
  helm:
    releaseName: {{ .release | default .chart }}
    valueFiles:
      {{- range .values }}
      - $values/helm-values/{{ . }}
      {{- end }}
{{- end -}}

{{/* The commit of the images, which must be known. */}}
{{- define "application.tag" -}}
{{- required "image.tag is empty: CI writes the commit into deploy/argocd/environments/<name>.image.yaml; by hand: .github/scripts/set-image-tag <environment> <commit> <branch>" .Values.image.tag -}}
{{- end -}}
