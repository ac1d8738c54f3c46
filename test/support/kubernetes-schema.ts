/**
 * Validates objects against the OpenAPI document that Kubernetes publishes (test/fixtures/kubernetes), with unknown
 * fields refused, as an API server does with `fieldValidation=Strict`.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';

const schemaNode = z.record(z.string(), z.unknown());
const published = z
  .object({ definitions: z.record(z.string(), schemaNode) })
  .parse(JSON.parse(readFileSync(path.join(import.meta.dirname, '../fixtures/kubernetes/openapi.json'), 'utf8')));
const definitions = Object.fromEntries(
  Object.entries(published.definitions).map(([name, node]) => [name, strict(node)]),
);
const kinds = new Map<string, string>(
  Object.entries(published.definitions).flatMap(([name, node]) =>
    z
      .array(z.object({ group: z.string(), kind: z.string(), version: z.string() }))
      .catch([])
      .parse(node['x-kubernetes-group-version-kind'])
      .map(({ group, kind, version }) => [`${group === '' ? '' : `${group}/`}${version} ${kind}`, name]),
  ),
);
const compiled = new Map<string, z.ZodType>();

/**
 * @param value an object with `apiVersion` and `kind`.
 * @returns one sentence for each fault, such as "spec.backoffLimit: expected number"; empty if there is none.
 */
export function faultsOfObject(value: unknown): readonly string[] {
  const named = z.object({ apiVersion: z.string(), kind: z.string() }).safeParse(value).data;
  const kind = `${named?.apiVersion} ${named?.kind}`;
  const name = kinds.get(kind);
  if (name === undefined) return [`"${kind}" is not a kind that the trimmed document has.`];
  const schema =
    compiled.get(name) ??
    z.fromJSONSchema({ $ref: `#/definitions/${name}`, definitions }, { defaultTarget: 'draft-7' });
  compiled.set(name, schema);
  const parsed = schema.safeParse(value);
  return parsed.success ? [] : parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
}

/** Closes each object that names its properties, and writes the union that JSON Schema has no format for. */
function strict(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(strict);
  const node = schemaNode.safeParse(value).data;
  if (node === undefined) return value;
  if (node['format'] === 'int-or-string') return { anyOf: [{ type: 'integer' }, { type: 'string' }] };
  const inner = Object.fromEntries(
    Object.entries(node).flatMap(([key, each]) =>
      key.startsWith('x-kubernetes') || (key === 'format' && typeof each === 'string') ? [] : [[key, strict(each)]],
    ),
  );
  return typeof node['properties'] === 'object' && node['type'] === 'object'
    ? { ...inner, additionalProperties: false }
    : inner;
}
