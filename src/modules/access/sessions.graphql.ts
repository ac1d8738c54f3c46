/** Sessions in the API: who is signed in. Sign-in and sign-out themselves go over HTTP (src/api/sessions.ts). */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { arg, extendType, idArg, inputObjectType, nonNull, objectType } from '../../api/nexus.ts';
import { payloadType, settle } from '../../api/payload.ts';

const store = path.join(import.meta.dirname, 'sessions.store.ts');

export const Session = objectType({
  name: 'Session',
  sourceType: { module: store, export: 'SessionRecord' },
  description: 'The session of a browser that signed in with a key. It has the permissions of the key.',
  definition(t) {
    t.nonNull.id('id');
    t.nonNull.field('key', { type: 'AccessKey', description: 'The session ends when the key expires or is revoked.' });
    t.string('address', { description: 'Address of the sign-in, as far as trusted proxies report it.' });
    t.nonNull.field('createdAt', { type: 'DateTime' });
    t.field('lastUsedAt', { type: 'DateTime', description: 'Precise to a minute.' });
    t.nonNull.field('expiresAt', { type: 'DateTime' });
  },
});

export const SessionConnection = connectionType('Session');

export const SessionFilter = inputObjectType({
  name: 'SessionFilter',
  definition(t) {
    t.string('owner', { description: 'Owner of the key.' });
  },
});

export const SessionQueries = extendType({
  type: 'Query',
  definition(t) {
    t.nonNull.field('sessions', {
      type: 'SessionConnection',
      description: 'Open sessions, newest first.',
      args: { ...pageArguments, filter: arg({ type: 'SessionFilter' }) },
      resolve: (_root, args, ctx) => ctx.services.access.sessions.list(ctx.viewer, args, args.filter ?? {}),
    });
  },
});

export const SessionPayload = payloadType('SessionPayload', 'session', 'Session');

export const SessionMutations = extendType({
  type: 'Mutation',
  definition(t) {
    t.nonNull.field('revokeSession', {
      type: 'SessionPayload',
      description: 'Ends a session. Its open WebSockets are closed within 30 s.',
      args: { id: nonNull(idArg()) },
      resolve: (_root, args, ctx) => settle('session', () => ctx.services.access.sessions.revoke(ctx.viewer, args.id)),
    });
  },
});
