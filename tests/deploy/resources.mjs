// Checks objects of KEDA and of the Prometheus operator against their definitions.
// Argument: a folder with node_modules. Input: JSON, a list of objects. Output: JSON, a list of faults.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const packages = pathToFileURL(`${process.argv[2]}/node_modules/@kubernetes-models/`);
const OPERATOR = "prometheus-operator/_schemas/ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoringV1";
const DEFINITIONS = {
  ScaledObject: "keda/_schemas/ComGithubKedacoreKedaV2ApisKedaV1alpha1ScaledObject.js",
  ServiceMonitor: `${OPERATOR}ServiceMonitor.js`,
  PrometheusRule: `${OPERATOR}PrometheusRule.js`,
};

// A definition reads each field that it knows and ignores others: what it did not read is unknown.
function watched(value, path, unread) {
  if (typeof value !== "object" || value === null) return value;
  for (const key of Object.keys(value)) {
    unread.add(`${path}.${key}`);
    value[key] = watched(value[key], `${path}.${key}`, unread);
  }
  return new Proxy(value, {
    get(target, key) {
      unread.delete(`${path}.${String(key)}`);
      return target[key];
    },
  });
}

const faults = [];
for (const resource of JSON.parse(readFileSync(0, "utf-8"))) {
  const name = `${resource.kind} ${resource.metadata?.name}`;
  const { validate } = await import(new URL(DEFINITIONS[resource.kind], packages));
  const unread = new Set();
  if (!validate(watched(resource, "", unread)))
    for (const { instancePath, message } of validate.errors) faults.push(`${name}: ${instancePath} ${message}`);
  // Kubernetes itself defines `metadata`
  for (const path of unread)
    if (!path.startsWith(".metadata.")) faults.push(`${name}: unknown field ${path}`);
}
console.log(JSON.stringify(faults));
