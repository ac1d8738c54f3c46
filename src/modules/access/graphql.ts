/** API types and fields of access keys and of the request's sender. */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { arg, enumType, extendType, idArg, inputObjectType, list, nonNull, objectType } from '../../api/nexus.ts';
import { payloadType, settle } from '../../api/payload.ts';
import { ACCESS_ACTIONS, ACCESS_ROLES } from './index.ts';

export * from './sessions.graphql.ts';

const store = path.join(import.meta.dirname, 'access.store.ts');

export const AccessRole = enumType({
  name: 'AccessRole',
  description: 'Ordered: each role includes the permissions of the roles before it.',
  members: [...ACCESS_ROLES],
});
export const AccessAction = enumType({
  name: 'AccessAction',
  description:
    'READ: queries, downloads, subscriptions. CATALOGUE: editing metadata of datasets and models. IMPORT: importing images and checkpoints. LAUNCH: starting and ending runs. DELETE: deletions. ADMINISTER: keys and the audit log.',
  members: [...ACCESS_ACTIONS],
});

export const Viewer = objectType({
  name: 'Viewer',
  description: 'The sender of the request.',
  definition(t) {
    t.string('name', { description: 'Name of the key; null for a request without a key.' });
    t.string('owner', { description: 'The person who is responsible for the key.' });
    t.nonNull.string('role', { description: 'READER, CONTRIBUTOR, OPERATOR or ADMIN; ANONYMOUS without a key.' });
    t.list.nonNull.field('actions', {
      type: 'AccessAction',
      description: 'The only actions that the key may take, within its role; null: not limited.',
    });
    t.list.nonNull.string('resources', {
      description: 'The only resources that the key may change; null: not limited.',
    });
  },
});

export const ViewerQuery = extendType({
  type: 'Query',
  definition(t) {
    t.nonNull.field('viewer', {
      type: 'Viewer',
      resolve: (_root, _args, { viewer }) => {
        if (viewer.kind === 'ANONYMOUS')
          return { name: null, owner: null, role: 'ANONYMOUS', actions: null, resources: null };
        const { name, owner, role, scopes } = viewer;
        return {
          name,
          owner,
          role,
          actions: scopes.actions === null ? null : [...scopes.actions],
          resources: scopes.resources === null ? null : [...scopes.resources],
        };
      },
    });
  },
});

export const AccessKey = objectType({
  name: 'AccessKey',
  sourceType: { module: store, export: 'AccessKeyRecord' },
  description: 'A key of a person or a tool. Its secret is shown only when it is created.',
  definition(t) {
    t.nonNull.id('id');
    t.nonNull.string('name');
    t.nonNull.string('owner', { description: 'The person who is responsible for actions taken with the key.' });
    t.nonNull.field('role', { type: 'AccessRole' });
    t.nonNull.list.nonNull.field('actions', {
      type: 'AccessAction',
      description: 'The only actions that the key may take, within its role; empty: not limited.',
      resolve: (key) => [...key.actions],
    });
    t.nonNull.list.nonNull.string('resources', {
      description: 'The only resources that the key may change, e.g. dataset:bach or model:*; empty: not limited.',
      resolve: (key) => [...key.resources],
    });
    t.nonNull.field('createdAt', { type: 'DateTime' });
    t.field('lastUsedAt', { type: 'DateTime', description: 'Precise to a minute.' });
    t.field('expiresAt', { type: 'DateTime', description: 'Null: never.' });
    t.field('revokedAt', { type: 'DateTime' });
  },
});

export const AccessKeyConnection = connectionType('AccessKey');

export const AccessKeyFilter = inputObjectType({
  name: 'AccessKeyFilter',
  definition(t) {
    t.string('owner');
    t.boolean('usable', { description: 'true: keys that are neither revoked nor expired; false: the others.' });
  },
});

export const KeyQueries = extendType({
  type: 'Query',
  definition(t) {
    t.nonNull.field('keys', {
      type: 'AccessKeyConnection',
      description: 'Newest first.',
      args: { ...pageArguments, filter: arg({ type: 'AccessKeyFilter' }) },
      resolve: (_root, args, ctx) => ctx.services.access.keys(ctx.viewer, args, args.filter ?? {}),
    });
  },
});

export const CreateKeyInput = inputObjectType({
  name: 'CreateKeyInput',
  definition(t) {
    t.nonNull.string('name', { description: 'Purpose of the key, e.g. notebook on the microscope.' });
    t.nonNull.string('owner', { description: 'The person who is responsible for actions taken with the key.' });
    t.nonNull.field('role', { type: 'AccessRole' });
    t.list.nonNull.field('actions', {
      type: 'AccessAction',
      description: 'Limits the key to these actions, within its role. Default: all.',
    });
    t.list.nonNull.string('resources', {
      description: 'Limits the resources that the key may change, e.g. ["dataset:bach", "model:*"]. Default: all.',
    });
    t.field('expiresAt', { type: 'DateTime', description: 'Default: a year from now. null: never.' });
  },
});

export const CreateKeyPayload = objectType({
  name: 'CreateKeyPayload',
  definition(t) {
    t.field('key', { type: 'AccessKey' });
    t.string('secret', { description: 'The key to send as "Authorization: Bearer ...". Shown only this once.' });
    t.field('userErrors', { type: nonNull(list(nonNull('UserError'))) });
  },
});
export const AccessKeyPayload = payloadType('AccessKeyPayload', 'key', 'AccessKey');

export const KeyMutations = extendType({
  type: 'Mutation',
  definition(t) {
    t.nonNull.field('createKey', {
      type: 'CreateKeyPayload',
      args: { input: nonNull(arg({ type: 'CreateKeyInput' })) },
      resolve: async (_root, args, ctx) => {
        const { made, userErrors } = await settle('made', () => ctx.services.access.createKey(ctx.viewer, args.input));
        return { key: made?.key ?? null, secret: made?.secret ?? null, userErrors };
      },
    });
    t.nonNull.field('revokeKey', {
      type: 'AccessKeyPayload',
      description: 'Revokes a key and its sessions permanently. Open WebSockets of the key are closed within 30 s.',
      args: { id: nonNull(idArg()) },
      resolve: (_root, args, ctx) => settle('key', () => ctx.services.access.revokeKey(ctx.viewer, args.id)),
    });
  },
});
