/** The manifests of docker/kubernetes, the example of an overlay, compose and the Apptainer recipe. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import { parse } from 'yaml';
import { z } from 'zod';
import { launcherCommand } from '../../src/cli/machine-commands.ts';
import { siteSchema } from '../../workers/launchers/kubernetes/job.ts';
import { at } from '../support/catalogue.ts';
import { faultsOfNames } from '../support/kubernetes-api.ts';
import { faultsOfObject } from '../support/kubernetes-schema.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const MANIFESTS = path.join(ROOT, 'docker/kubernetes');

const kustomizationSchema = z.strictObject({
  apiVersion: z.literal('kustomize.config.k8s.io/v1beta1'),
  kind: z.literal('Kustomization'),
  namespace: z.string().optional(),
  resources: z.array(z.string()).min(1),
  images: z.array(z.strictObject({ name: z.string(), newName: z.string(), newTag: z.string() })).default([]),
  configMapGenerator: z
    .array(
      z.strictObject({
        name: z.string(),
        behavior: z.literal('replace').optional(),
        files: z.array(z.string()).min(1),
      }),
    )
    .default([]),
  patches: z
    .array(z.strictObject({ target: z.strictObject({ kind: z.string(), name: z.string() }), patch: z.string() }))
    .default([]),
});
const patchSchema = z.array(z.strictObject({ op: z.enum(['add', 'replace']), path: z.string(), value: z.unknown() }));
const objectSchema = z.looseObject({ kind: z.string(), metadata: z.looseObject({ name: z.string() }) });
const podSchema = z.looseObject({
  automountServiceAccountToken: z.boolean().optional(),
  securityContext: z.looseObject({ runAsNonRoot: z.literal(true), runAsUser: z.number().min(1) }),
  containers: z.array(
    z.looseObject({
      image: z.string(),
      command: z.array(z.string()).default([]),
      args: z.array(z.string()).default([]),
      securityContext: z.strictObject({
        allowPrivilegeEscalation: z.literal(false),
        readOnlyRootFilesystem: z.literal(true),
        capabilities: z.strictObject({ drop: z.tuple([z.literal('ALL')]) }),
      }),
      volumeMounts: z.array(
        z.looseObject({ name: z.string(), mountPath: z.string(), readOnly: z.boolean().optional() }),
      ),
    }),
  ),
});

const read = async (...parts: readonly string[]): Promise<unknown> =>
  parse(await readFile(path.join(MANIFESTS, ...parts), 'utf8'));
const kustomization = async (folder: string) => kustomizationSchema.parse(await read(folder, 'kustomization.yaml'));
const objects = async () =>
  Promise.all(
    (await kustomization('base')).resources.map(async (file) => objectSchema.parse(await read('base', file))),
  );

describe('the manifests', () => {
  test('are valid for Kubernetes, field by field', async () => {
    for (const object of await objects())
      assert.deepEqual([...faultsOfObject(object), ...faultsOfNames(object)], [], object.metadata.name);
  });

  test('run as nobody special, with at most one writable volume', async () => {
    const pods = (await objects()).flatMap((object) =>
      ['Deployment', 'StatefulSet'].includes(object.kind) ? [at(object, 'spec.template.spec')] : [],
    );
    assert.equal(pods.length, 2);
    for (const pod of pods)
      for (const { volumeMounts } of podSchema.parse(pod).containers)
        assert.ok(volumeMounts.filter(({ readOnly }) => readOnly !== true).length <= 1);
  });

  test('give the launcher the rights that it uses, and none besides', async () => {
    const role = (await objects()).find(({ kind }) => kind === 'Role');
    assert.deepEqual(at(role, 'rules'), [
      { apiGroups: ['batch'], resources: ['jobs'], verbs: ['create', 'get', 'list', 'delete'] },
      { apiGroups: [''], resources: ['pods'], verbs: ['list'] },
    ]);
  });

  test('start the launcher with options that it has, also after the patches of the example', async () => {
    const example = await kustomization('example');
    const all = await objects();
    let patched = 0;
    for (const { target, patch } of example.patches) {
      const object = all.find(({ kind, metadata }) => kind === target.kind && metadata.name === target.name);
      assert.ok(object !== undefined, `${target.kind} ${target.name} does not exist`);
      for (const { op, path: place, value } of patchSchema.parse(parse(patch))) {
        apply(object, op, place, value);
        patched += 1;
      }
      assert.deepEqual([...faultsOfObject(object), ...faultsOfNames(object)], []);
    }
    assert.ok(patched > 0);
    for (const objectsToTry of [await objects(), all]) {
      const deployment = objectsToTry.find(({ kind }) => kind === 'Deployment');
      const [container] = podSchema.parse(at(deployment, 'spec.template.spec')).containers;
      assert.deepEqual(container?.command.slice(0, 3), ['node', 'bin/paraffin.mjs', 'launcher']);
      const known = new Set(launcherCommand.options.map(({ long }) => long));
      for (const word of [...container.command.slice(3), ...container.args]) {
        const name = word.split('=', 1).join();
        assert.ok(known.has(name), `the launcher has no option ${name}`);
      }
    }
  });

  test('name files that exist, images of docker/, and sites that the launcher accepts', async () => {
    const names = new Set<string>();
    for (const pod of (await objects()).flatMap((object) => at(object, 'spec.template.spec') ?? []))
      for (const { image } of podSchema.parse(pod).containers) names.add(image);
    for (const folder of ['base', 'example']) {
      const { resources, configMapGenerator, images } = await kustomization(folder);
      for (const file of resources) {
        assert.ok(existsSync(path.join(MANIFESTS, folder, file)), file);
        // kustomize refuses a folder that contains the one that names it.
        assert.ok(
          path.relative(path.join(MANIFESTS, folder, file), path.join(MANIFESTS, folder)).startsWith('..'),
          file,
        );
      }
      for (const { name } of images) assert.ok(names.has(name), name);
      for (const file of configMapGenerator.flatMap(({ files }) => files)) {
        const text = await readFile(path.join(MANIFESTS, folder, file.split('=').at(-1) ?? ''), 'utf8');
        assert.ok(siteSchema.safeParse(JSON.parse(text)).success, file);
      }
    }
    for (const name of names)
      assert.ok(existsSync(path.join(ROOT, 'docker', `${name.replace('paraffin-', '')}.Dockerfile`)), name);
  });
});

/** RFC 6902, as far as the example uses it. */
function apply(object: unknown, op: 'add' | 'replace', place: string, value: unknown): void {
  const keys = place.slice(1).split('/');
  const last = keys.pop() ?? '';
  const parent = z
    .union([z.array(z.unknown()), z.record(z.string(), z.unknown())])
    .parse(
      keys.reduce<unknown>(
        (node, key) => (node !== null && typeof node === 'object' ? Reflect.get(node, key) : undefined),
        object,
      ),
    );
  if (op === 'replace') assert.ok(last in parent, `${place} does not exist`);
  if (Array.isArray(parent) && last === '-') parent.push(value);
  else Reflect.set(parent, last, value);
}

test('compose runs server and worker without root, with one writable volume each, over HTTP alone', async () => {
  const service = z.looseObject({
    read_only: z.literal(true),
    cap_drop: z.tuple([z.literal('ALL')]),
    volumes: z.array(z.string()),
    command: z.array(z.string()).optional(),
    build: z.looseObject({ dockerfile: z.string() }).optional(),
  });
  const compose = z
    .looseObject({
      services: z.looseObject({ server: service, 'worker-key': service, worker: service, 'worker-gpu': service }),
    })
    .parse(parse(await readFile(path.join(ROOT, 'docker/compose.yaml'), 'utf8'), { merge: true }));
  const { server, worker, 'worker-gpu': gpu, 'worker-key': keeper } = compose.services;
  const writable = (each: z.infer<typeof service>) => each.volumes.filter((volume) => !volume.endsWith(':ro'));
  assert.deepEqual(writable(server), ['data:/data']);
  assert.deepEqual(writable(worker), ['worker:/data']);
  assert.deepEqual(writable(gpu), ['worker-gpu:/data']);
  // Only the shell that makes the key sees both.
  execFileSync('sh', ['-n', '-c', (keeper.command?.at(-1) ?? '').replaceAll('$$', '$')]);
  for (const { build } of [server, worker, gpu]) assert.ok(existsSync(path.join(ROOT, build?.dockerfile ?? 'missing')));
});

test('every Dockerfile takes its base image as an argument, and does not run as root', async () => {
  for (const name of ['server', 'worker', 'worker-gpu']) {
    const text = await readFile(path.join(ROOT, 'docker', `${name}.Dockerfile`), 'utf8');
    assert.match(text, /^ARG BASE=\S+$/m);
    for (const [, base] of text.matchAll(/^FROM (\S+)/gm)) assert.equal(base, '${BASE}', name);
    assert.match(text, /^USER node$/m);
  }
});

test('the Apptainer recipe copies files that exist, and its scripts are valid shell', async () => {
  const text = await readFile(path.join(ROOT, 'docker/apptainer/worker.def'), 'utf8');
  const sections = new Map(
    text
      .split(/^%/m)
      .slice(1)
      .map((part) => [part.split('\n', 1).join(), part.slice(part.indexOf('\n') + 1)]),
  );
  assert.deepEqual([...sections.keys()], ['arguments', 'files', 'post', 'environment', 'runscript', 'help']);
  const copied = (sections.get('files') ?? '')
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/));
  for (const [from = '', to = ''] of copied) {
    assert.ok(existsSync(path.join(ROOT, from)), from);
    assert.equal(to, `/app/${from}`);
  }
  const defined = new Set([...(sections.get('arguments') ?? '').matchAll(/^\s*(\w+)=/gm)].map(([, name]) => name));
  for (const [, name] of text.matchAll(/\{\{ (\w+) \}\}/g)) assert.ok(defined.has(name), name);
  for (const name of ['post', 'environment', 'runscript'])
    execFileSync('sh', ['-n'], { input: (sections.get(name) ?? '').replaceAll(/\{\{ (\w+) \}\}/g, '$1') });
});
