{{/* Names and labels: here alone. */}}
{{- define "genaug.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "genaug.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "genaug.selectorInline" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}, app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "genaug.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: genaug
{{ include "genaug.selector" . }}
{{- end -}}

{{/* Metadata of an object: dict root, name, component. */}}
{{- define "genaug.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "genaug.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* What a component is set to: the defaults, and over them its own. dict root, own. */}}
{{- define "genaug.settings" -}}
{{- mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy .own) | toJson -}}
{{- end -}}

{{/* An image: dict root, settings, component. */}}
{{- define "genaug.image" -}}
{{- $own := .settings.image -}}
{{- $repository := default (printf "%s-%s" .root.Values.image.repository .component) $own.repository -}}
{{- if $own.digest -}}
{{ $repository }}@{{ $own.digest }}
{{- else -}}
{{ $repository }}:{{ default (default .root.Chart.AppVersion .root.Values.image.tag) $own.tag }}
{{- end -}}
{{- end -}}

{{- define "genaug.authSecret" -}}
{{- default (printf "%s-auth" (include "genaug.fullname" .)) .Values.auth.existingSecret -}}
{{- end -}}

{{- define "genaug.storeSecret" -}}
{{- default (printf "%s-store" (include "genaug.fullname" .)) .Values.store.existingSecret -}}
{{- end -}}

{{/* The store identities; the order in which their users are made. */}}
{{- define "genaug.roles" -}}
assembly,finetune,generation,labeling,selection,train,evaluate,report,orchestrator
{{- end -}}

{{/* Address of a service: dict root, service. */}}
{{- define "genaug.endpoint" -}}
{{- if .root.Values.tls.existingSecret }}https://{{ end }}{{ include "genaug.fullname" .root }}-{{ .service }}.{{ .root.Release.Namespace }}.svc:50051
{{- end -}}

{{- define "genaug.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Environment of every process: dict root, settings, role. */}}
{{- define "genaug.env" -}}
{{- $minio := .root.Values.minio.enabled -}}
{{- $perRole := or $minio (eq .root.Values.store.identities "perRole") -}}
- {name: GENAUG_DEVICE, value: {{ .settings.device | quote }}}
- {name: GENAUG_THREADS, value: {{ .settings.threads | quote }}}
- {name: GENAUG_LOG_LEVEL, value: {{ .settings.logLevel }}}
{{- if .role }}
- {name: GENAUG_STORE__URL, value: {{ default (ternary "s3://genaug" "" $minio) .root.Values.store.url | required "store.url: say where the object store is, or set minio.enabled for one of our own" | quote }}}
- {name: GENAUG_STORE__ENDPOINT, value: {{ default (ternary (printf "http://%s-minio.%s.svc:9000" (include "genaug.fullname" .root) .root.Release.Namespace) "" $minio) .root.Values.store.endpoint | quote }}}
- {name: GENAUG_STORE__REGION, value: {{ .root.Values.store.region | quote }}}
{{- if or $minio .root.Values.store.existingSecret }}
- name: GENAUG_STORE__ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ include "genaug.storeSecret" .root }}, key: {{ ternary (printf "%s-" .role) "" $perRole }}access-key-id}}
- name: GENAUG_STORE__SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ include "genaug.storeSecret" .root }}, key: {{ ternary (printf "%s-" .role) "" $perRole }}secret-access-key}}
{{- end }}
{{- end }}
{{- with .root.Values.otel.endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with .settings.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "genaug.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if .gpu.count -}}
{{- $limits := merge (dict .gpu.resource (.gpu.count | int | toString)) (default dict $resources.limits) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* Where a pod goes and what it may: dict root, settings, account. */}}
{{- define "genaug.podSpec" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: {{ default false .token }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- range . }}
  - {name: {{ . }}}
{{- end }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
{{- with index $.settings $key }}
{{ $key }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- range $key := list "priorityClassName" "runtimeClassName" }}
{{- with index $.settings $key }}
{{ $key }}: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "genaug.volumes" -}}
- name: tmp
{{- if .cache.existingClaim }}
  persistentVolumeClaim: {claimName: {{ .cache.existingClaim }}}
{{- else }}
  emptyDir: {sizeLimit: {{ .cache.size }}}
{{- end }}
{{- if .shmSize }}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .shmSize }}}
{{- end }}
{{- with .extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "genaug.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .shmSize }}
- {name: shm, mountPath: /dev/shm}
{{- end }}
{{- with .extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A volume that holds data, kept when the chart is uninstalled and taken up by the next installation: dict root, name, component, storage. */}}
{{- define "genaug.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  {{- include "genaug.metadata" . | nindent 2 }}
  annotations:
    helm.sh/resource-policy: keep
spec:
  accessModes: [ReadWriteOnce]
  {{- with .storage.className }}
  storageClassName: {{ . }}
  {{- end }}
  resources: {requests: {storage: {{ .storage.size }}}}
{{- end -}}

{{/* How many pods, and how many of them may go at once: dict root, settings, name, component, scales. */}}
{{- define "genaug.scaling" -}}
{{- $s := .settings -}}
{{- if and $s.autoscaling.enabled .scales }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "genaug.metadata" . | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ .name }}}
  minReplicas: {{ $s.autoscaling.minReplicas }}
  maxReplicas: {{ $s.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ $s.autoscaling.targetCPU }}}}
{{- end }}
{{- if $s.pdb.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "genaug.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ $s.pdb.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "genaug.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
{{- end }}
{{- end -}}
