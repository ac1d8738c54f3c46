/** Sessions in the API: who is signed in at a browser. One is begun and ended over HTTP (src/api/sessions.ts). */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { arg, extendType, idArg, inputObjectType, nonNull, objectType } from '../../api/nexus.ts';
import { payloadType, settle } from '../../api/payload.ts';

const store = path.join(import.meta.dirname, 'sessions.store.ts');

export const Session = objectType({
  name: 'Session',
  sourceType: { module: store, export: 'SessionRecord' },
  description: 'Somebody is signed in with a key at a browser. It opens what the key opens.',
  definition(t) {
    t.nonNull.id('id');
    t.nonNull.field('key', { type: 'AccessKey', description: 'The session ends with it.' });
    t.string('address', { description: 'From where its holder signed in, as far as the declared proxies report it.' });
    t.nonNull.field('createdAt', { type: 'DateTime' });
    t.field('lastUsedAt', { type: 'DateTime', description: 'To the minute.' });
    t.nonNull.field('expiresAt', { type: 'DateTime' });
  },
});

export const SessionConnection = connectionType('Session');

export const SessionFilter = inputObjectType({
  name: 'SessionFilter',
  definition(t) {
    t.string('owner', { description: 'Of the key.' });
  },
});

export const SessionQueries = extendType({
  type: 'Query',
  definition(t) {
    t.nonNull.field('sessions', {
      type: 'SessionConnection',
      description: 'Who is signed in, newest first.',
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
      description: 'Ends it. What its holder has open is closed within half a minute.',
      args: { id: nonNull(idArg()) },
      resolve: (_root, args, ctx) => settle('session', () => ctx.services.access.sessions.revoke(ctx.viewer, args.id)),
    });
  },
});
