{{- define "abhinaya.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- $name | trunc 30 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that select: dict root, component */}}
{{- define "abhinaya.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .cell }}
abhinaya-cell: {{ . | quote }}
{{- end }}
{{- with .service }}
abhinaya-service: {{ . | quote }}
{{- end }}
{{- with .gateway }}
abhinaya-gateway: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "abhinaya.labels" -}}
{{ include "abhinaya.selector" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* dict root, tag or cell, torch */}}
{{- define "abhinaya.image" -}}
{{- $tag := .tag | default (get .root.Values.image.tags (.cell | default "")) | default .root.Values.image.tag | default .root.Chart.AppVersion -}}
image: {{ printf "%s:%s" (ternary .root.Values.image.cuda .root.Values.image.repository (default false .torch)) $tag | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
{{- end -}}

{{- define "abhinaya.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "abhinaya.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end -}}

{{/* The flags of the line-up, as items of `args` */}}
{{- define "abhinaya.lineup" -}}
- --profile
- {{ ternary "/etc/abhinaya/profile/profile.toml" .Values.profile (eq .Values.profile "file") | quote }}
{{- range .Values.settings }}
- --set
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* A container that copies keys: a volume of Secrets is writable by all and readable by a group,
     which `--keys` refuses. It alone sees the Secret. As `image`. */}}
{{- define "abhinaya.keys" -}}
- name: keys
  {{- include "abhinaya.image" . | nindent 2 }}
  command: [sh, -ec, "umask 077; mkdir -p /keys/own; cp -L /secret/* /keys/own/"]
  {{- include "abhinaya.container" .root | nindent 2 }}
  resources:
    requests: { cpu: 10m, memory: 16Mi }
    limits: { memory: 64Mi }
  volumeMounts:
    - { name: secret, mountPath: /secret, readOnly: true }
    - { name: keys, mountPath: /keys }
{{- end -}}

{{/* Volumes of every pod: dict root, secrets (a list), cell (its public key is added, if given) */}}
{{- define "abhinaya.volumes" -}}
- name: secret
  projected:
    defaultMode: 0440
    sources:
      {{- range .secrets }}
      - secret: { name: {{ . }} }
      {{- end }}
      {{- with .cell }}
      - configMap:
          name: {{ include "abhinaya.name" $.root }}-cells
          items: [{ key: {{ . }}.key, path: hub.key }]
      {{- end }}
- name: keys
  emptyDir: { medium: Memory, sizeLimit: 1Mi }
- name: tmp
  emptyDir: { sizeLimit: 2Gi }
{{- if eq .root.Values.profile "file" }}
- name: profile
  configMap: { name: {{ include "abhinaya.name" .root }}-profile }
{{- end }}
{{- end -}}

{{- define "abhinaya.mounts" -}}
- { name: keys, mountPath: /keys, readOnly: true }
- { name: tmp, mountPath: /tmp }
{{- if eq .Values.profile "file" }}
- { name: profile, mountPath: /etc/abhinaya/profile, readOnly: true }
{{- end }}
{{- end -}}

{{/* The map of cells, for who sends streams */}}
{{- define "abhinaya.map" -}}
- name: cells
  configMap:
    name: {{ include "abhinaya.name" . }}-cells
    items: [{ key: cells.json, path: cells.json }]
{{- end -}}

{{/* Annotations of pods: a new profile starts them again; a new map of cells must not */}}
{{- define "abhinaya.annotations" -}}
checksum/profile: {{ .Values.profileFile | sha256sum }}
{{- end -}}

{{- define "abhinaya.machines" -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions:
          - { key: {{ .root.Values.machineLabel }}, operator: In, values: {{ .machines | toJson }} }
{{- end -}}

{{/* Resources: dict cpus, gpus, memory. No limit of processors: it would only slow labels down */}}
{{- define "abhinaya.resources" -}}
resources:
  requests:
    cpu: {{ .cpus | quote }}
    memory: {{ .memory }}
  limits:
    memory: {{ .memory }}
    {{- if .gpus }}
    nvidia.com/gpu: {{ .gpus }}
    {{- end }}
{{- end -}}

{{/* Hub and node touch this file while their loop turns, from the moment they serve */}}
{{- define "abhinaya.probes" -}}
startupProbe:
  exec: { command: [test, -e, /tmp/alive] }
  periodSeconds: 2
  failureThreshold: {{ .start }}
livenessProbe:
  exec: { command: [sh, -c, 'test -n "$(find /tmp/alive -newermt "-15 seconds")"'] }
  periodSeconds: 5
  failureThreshold: 2
  timeoutSeconds: 5
{{- end -}}
