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

{{/* Values of a component: the defaults, overridden by its own. dict root, own. */}}
{{- define "genaug.settings" -}}
{{- mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy .own) | toJson -}}
{{- end -}}

{{/* Whether callers need a token: "true", or nothing. */}}
{{- define "genaug.tokens" -}}
{{- if ne (dig "auth" "mode" "" .Values.config) "none" -}}true{{- end -}}
{{- end -}}

{{/* Settings that the chart computes, as YAML: dict root, settings, component. */}}
{{- define "genaug.computedConfig" -}}
{{- $root := .root -}}
{{- $full := include "genaug.fullname" $root -}}
home: /tmp/genaug
endpoint: {{ include "genaug.endpoint" (dict "root" $root "service" "gateway") }}
endpoints:
  {{- range $service := list "generation" "labeling" "selection" "assembly" "orchestrator" }}
  {{ $service }}: {{ include "genaug.endpoint" (dict "root" $root "service" $service) }}
  {{- end }}
{{- if $root.Values.minio.enabled }}
store: {endpoint: "http://{{ $full }}-minio.{{ $root.Release.Namespace }}.svc:9000"}
{{- end }}
database:
  executor_id: {{ $full }}-orchestrator-0
  {{- if not $root.Values.database.existingSecret }}
  url: sqlite:////var/lib/genaug/orchestrator.sqlite
  {{- end }}
auth: {tokens_file: /etc/genaug/auth/tokens.yaml}
{{- if $root.Values.tls.existingSecret }}
tls: {certificate: /etc/genaug/tls/tls.crt, key: /etc/genaug/tls/tls.key, authority: /etc/genaug/tls/ca.crt}
{{- else }}
tls: {certificate: "", key: ""}
{{- end }}
server:
  address: 0.0.0.0:50051
  health_address: 0.0.0.0:50052
  metrics_address: 0.0.0.0:9464
  grace_s: {{ max 1 (sub .settings.gracePeriodSeconds 5) }}
jobs: {runner: kubernetes, template: {{ $full }}}
{{- if and (eq .component "labeling") $root.Values.modelServer.enabled }}
labeling:
  predictor: open-inference
  open_inference: {address: "{{ $full }}-model-server.{{ $root.Release.Namespace }}.svc:7070"}
{{- end }}
{{- end -}}

{{/* Fail when a value contradicts a computed setting: dict path, given, computed. */}}
{{- define "genaug.refuseComputed" -}}
{{- range $key, $value := .computed -}}
{{- if hasKey $.given $key -}}
{{- $path := printf "%s.%s" $.path $key -}}
{{- $given := index $.given $key -}}
{{- if kindIs "map" $value -}}
{{- include "genaug.refuseComputed" (dict "path" $path "given" $given "computed" $value) -}}
{{- else if ne (toJson $given) (toJson $value) -}}
{{- fail (printf "%s: the chart sets it to %s; leave it out" $path (toJson $value)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The genaug.yaml of a component: `config`, overridden by its own, and the computed settings. dict root, settings, component. */}}
{{- define "genaug.config" -}}
{{- if hasKey .root.Values.defaults "config" -}}
{{- fail "defaults.config: settings of all components go into config" -}}
{{- end -}}
{{- $own := default dict .settings.config -}}
{{- range $section := list "auth" "store" -}}
{{- if hasKey $own $section -}}
{{- fail (printf "%s.config.%s: it must be the same for all components; set it in config.%s" $.component $section $section) -}}
{{- end -}}
{{- end -}}
{{- $config := mergeOverwrite (deepCopy .root.Values.config) (deepCopy $own) -}}
{{- $computed := include "genaug.computedConfig" . | fromYaml -}}
{{- include "genaug.refuseComputed" (dict "path" "config" "given" $config "computed" $computed) -}}
{{- $url := dig "store" "url" "" $config | default (ternary "s3://genaug" "" .root.Values.minio.enabled) -}}
{{- if not (hasPrefix "s3://" $url) -}}
{{- fail "config.store.url: name the object store as s3://bucket/prefix, or set minio.enabled for one in this release" -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config $computed (dict "store" (dict "url" $url))) -}}
{{- end -}}

{{/* Values of every component that has a genaug.yaml of its own, as JSON. "genaug" has no overrides: the test and the provisioning of the store. */}}
{{- define "genaug.components" -}}
{{- $owns := merge (dict "genaug" dict "model-server" .Values.modelServer.pods) .Values.services (pick .Values.jobs "finetune" "train" "evaluate" "report") -}}
{{- $components := dict -}}
{{- range $component, $own := $owns -}}
{{- $_ := set $components $component (include "genaug.settings" (dict "root" $ "own" (default dict $own)) | fromJson) -}}
{{- end -}}
{{- toJson $components -}}
{{- end -}}

{{- define "genaug.configVolume" -}}
- name: config
  configMap: {name: {{ include "genaug.fullname" . }}-config}
{{- end -}}

{{/* By subPath, which is never updated in place: settings are read at start, and the pods' annotation restarts them. dict component. */}}
{{- define "genaug.configMount" -}}
- {name: config, mountPath: /etc/genaug/genaug.yaml, subPath: {{ .component }}.yaml, readOnly: true}
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

{{/* S3 keys from the store's Secret: dict root, keys (of the id and of the secret in it). */}}
{{- define "genaug.storeKeys" -}}
{{- $secret := include "genaug.storeSecret" .root -}}
- name: GENAUG_STORE__ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ index .keys 0 }}}}
- name: GENAUG_STORE__SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ index .keys 1 }}}}
{{- end -}}

{{/* Environment of every process: where its settings are, and its credentials, from Secrets. dict root, settings; role, the store identity; token, whether it needs the bearer token. */}}
{{- define "genaug.env" -}}
{{- $minio := .root.Values.minio.enabled -}}
- {name: GENAUG_CONFIG, value: /etc/genaug/genaug.yaml}
{{- if and .role (or $minio .root.Values.store.existingSecret) }}
{{- $prefix := ternary (printf "%s-" .role) "" (or $minio (eq .root.Values.store.identities "perRole")) }}
{{ include "genaug.storeKeys" (dict "root" .root "keys" (list (printf "%saccess-key-id" $prefix) (printf "%ssecret-access-key" $prefix))) }}
{{- end }}
{{- if and .token (include "genaug.tokens" .root) }}
- name: GENAUG_AUTH__TOKEN
  valueFrom: {secretKeyRef: {name: {{ include "genaug.authSecret" .root }}, key: token}}
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
