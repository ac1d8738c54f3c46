/** The audit log in the API. */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { arg, enumType, extendType, inputObjectType, objectType } from '../../api/nexus.ts';
import { AUDIT_OUTCOMES } from './index.ts';

const rules = path.join(import.meta.dirname, 'audit.rules.ts');
const service = path.join(import.meta.dirname, 'audit.service.ts');

export const AuditOutcome = enumType({
  name: 'AuditOutcome',
  description:
    'DONE: committed, or nothing had to be changed. REJECTED: a user error. DENIED: not allowed. FAILED: an error of the server.',
  members: [...AUDIT_OUTCOMES],
});

export const AuditEntry = objectType({
  name: 'AuditEntry',
  sourceType: { module: rules, export: 'AuditRecord' },
  description: 'An action that was done, tried or refused. Entries are never changed or deleted.',
  definition(t) {
    t.nonNull.float('sequence', { description: 'From 1, without gaps.' });
    t.nonNull.field('at', { type: 'DateTime' });
    t.string('person');
    t.string('keyId');
    t.string('keyName');
    t.string('address', { description: 'Address of the client, as far as trusted proxies report it.' });
    t.nonNull.string('requestId');
    t.nonNull.string('action', {
      description:
        'A mutation such as Mutation.createKey, POST /session (sign-in), DELETE /session (sign-out), or a refused request such as GET /artifacts.',
    });
    t.string('subject', { description: 'The object of the action: its id, or the reference in the request.' });
    t.nonNull.field('outcome', { type: 'AuditOutcome' });
    t.string('code', { description: 'Code of the error.' });
    t.nonNull.string('previousHash');
    t.nonNull.string('hash', { description: 'sha256 over previousHash and the fields above.' });
  },
});

export const AuditEntryConnection = connectionType('AuditEntry');

export const AuditHead = objectType({
  name: 'AuditHead',
  sourceType: { module: rules, export: 'AuditHead' },
  description: 'The last entry. A copy that is kept elsewhere shows later whether the log was truncated or rewritten.',
  definition(t) {
    t.nonNull.float('sequence');
    t.nonNull.string('hash');
  },
});

export const AuditFault = objectType({
  name: 'AuditFault',
  sourceType: { module: rules, export: 'AuditFault' },
  definition(t) {
    t.nonNull.float('sequence');
    t.nonNull.string('message');
  },
});

export const AuditVerification = objectType({
  name: 'AuditVerification',
  sourceType: { module: service, export: 'AuditVerification' },
  definition(t) {
    t.nonNull.float('entryCount', { description: 'Number of valid entries.' });
    t.nonNull.field('head', { type: 'AuditHead' });
    t.field('fault', {
      type: 'AuditFault',
      description: 'The first fault; null if the whole log is valid.',
    });
  },
});

export const AuditFilter = inputObjectType({
  name: 'AuditFilter',
  definition(t) {
    t.string('person');
    t.string('keyId');
    t.string('action');
    t.string('subject');
    t.field('outcome', { type: 'AuditOutcome' });
    t.field('from', { type: 'DateTime', description: 'Inclusive.' });
    t.field('until', { type: 'DateTime', description: 'Exclusive.' });
  },
});

export const AuditQueries = extendType({
  type: 'Query',
  definition(t) {
    t.nonNull.field('auditLog', {
      type: 'AuditEntryConnection',
      description: 'Newest first.',
      args: { ...pageArguments, filter: arg({ type: 'AuditFilter' }) },
      resolve: (_root, args, ctx) => ctx.services.audit.list(ctx.viewer, args, args.filter ?? {}),
    });
    t.nonNull.field('verifyAudit', {
      type: 'AuditVerification',
      description: 'Recomputes every hash of the log.',
      resolve: (_root, _args, ctx) => ctx.services.audit.verify(ctx.viewer),
    });
  },
});
