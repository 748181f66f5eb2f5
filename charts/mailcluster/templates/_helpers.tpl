{{- define "mailcluster.labels" -}}
app.kubernetes.io/name: mailcluster-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "mailcluster.selector" -}}
app.kubernetes.io/name: mailcluster-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The operator's objects are named after the release. */}}
{{- define "mailcluster.name" -}}
{{- if contains "mailcluster" .Release.Name }}{{ printf "%s-operator" .Release.Name | trunc 52 }}{{ else }}{{ printf "%s-mailcluster-operator" .Release.Name | trunc 52 }}{{ end }}
{{- end }}

{{/* An image's full name: (dict "root" $ "part" .Values.image.node) */}}
{{- define "mailcluster.image" -}}
{{- $image := .root.Values.image -}}
{{- $name := .part.repository -}}
{{- if $image.registry }}{{ $name = printf "%s/%s" $image.registry .part.repository }}{{ end -}}
{{- if .part.digest }}{{ printf "%s@%s" $name .part.digest }}{{ else }}{{ printf "%s:%s" $name ($image.tag | default .root.Chart.AppVersion) }}{{ end -}}
{{- end }}

{{/* What the operator does in the namespaces it serves. */}}
{{- define "mailcluster.namespacedRules" -}}
- apiGroups: [mailcluster.io]
  resources: [mailclusters]
  verbs: [get, list, watch, patch, update]
- apiGroups: [mailcluster.io]
  resources: [mailclusters/status, mailclusters/finalizers, mailstores/status, mailstores/finalizers]
  verbs: [get, patch, update]
- apiGroups: [mailcluster.io]
  resources: [mailstores]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [""]
  resources: [configmaps, secrets, services, serviceaccounts, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete, patch]
- apiGroups: [""]
  resources: [pods/status]
  verbs: [get, patch]
- apiGroups: [apps]
  resources: [statefulsets, deployments]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
