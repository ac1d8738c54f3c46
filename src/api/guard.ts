/**
 * Deny by default: every root field needs a rule and every object type a role. Each call is checked before its resolver
 * runs, and recorded in the audit log.
 */
import {
  defaultFieldResolver,
  getNamedType,
  isAbstractType,
  isObjectType,
  type GraphQLField,
  type GraphQLNamedType,
  type GraphQLObjectType,
  type GraphQLResolveInfo,
  type GraphQLSchema,
} from 'graphql';
import { DomainError } from '../errors.ts';
import { ACCESS_ROLES, authorise, authoriseChange, type Viewer } from '../modules/access/index.ts';
import { isDenial, type AuditAct } from '../modules/audit/index.ts';
import type { ApiContext } from './context.ts';
import { FIELD_RULES, TYPE_ROLES, type FieldRule, type NeededRole } from './permissions.ts';
import { asksBeyondReceipt } from './receipt.ts';
import { referenceAt, resourcesTouched } from './touched.ts';

export interface Rules {
  readonly fields: Readonly<Record<string, FieldRule>>;
  readonly types: Readonly<Partial<Record<NeededRole, readonly string[]>>>;
}

/** The permission rules do not fit the schema: a programming error, reported before the server starts. */
export class PermissionError extends Error {
  constructor(faults: readonly string[]) {
    super(
      `The permissions in src/api/permissions.ts do not fit the schema:\n${faults.map((fault) => `  - ${fault}`).join('\n')}`,
    );
    this.name = 'PermissionError';
  }
}

type Field = GraphQLField<unknown, ApiContext>;
type Args = Readonly<Record<string, unknown>>;

/**
 * Puts a check before the resolver of every root field.
 * @throws PermissionError that names every field and type without a rule, every rule without a field or type, and every
 * field through which a role could reach a type that it may not see.
 */
export function guard(schema: GraphQLSchema, rules: Rules = { fields: FIELD_RULES, types: TYPE_ROLES }): GraphQLSchema {
  const roots = [schema.getQueryType(), schema.getMutationType(), schema.getSubscriptionType()].filter(
    (type) => type != null,
  );
  const fields = new Map<string, Field>(
    roots.flatMap((root) =>
      Object.entries(root.getFields()).map(([name, field]) => [`${root.name}.${name}`, field] as const),
    ),
  );
  const faults = [
    ...faultsOfFields(fields, rules),
    ...faultsOfTypes(schema, roots, rules),
    ...faultsOfReach(schema, fields, rules),
  ];
  if (faults.length > 0) throw new PermissionError(faults);
  for (const [name, field] of fields) {
    const rule = rules.fields[name];
    if (rule !== undefined) guardField(name, field, rule);
  }
  return schema;
}

function guardField(name: string, field: Field, rule: FieldRule): void {
  const isMutation = name.startsWith('Mutation.');
  const checkPermission = async (args: Args, context: ApiContext, info: GraphQLResolveInfo): Promise<void> => {
    checkRole(context.viewer, rule);
    // A payload must not bypass the permission to read; checked before anything is changed. The payload of a mutation
    // for an ADMIN is covered by the action of that mutation.
    if (isMutation && rule.role !== 'ADMIN' && asksBeyondReceipt(info)) authorise(context.viewer, 'READER', 'READ');
    if (rule.action !== 'READ' && context.viewer.kind === 'KEY' && context.viewer.scopes.resources !== null) {
      authoriseChange(context.viewer, await resourcesTouched(context, rule.touches ?? {}, args));
    }
  };
  const actOf = (args: Args, { viewer, address, requestId }: ApiContext): AuditAct => ({
    viewer,
    address,
    requestId,
    action: name,
    subject: subjectOf(args, rule),
  });
  /** A mutation is always recorded; any other call only when it is refused. */
  const audited = async <Result>(args: Args, context: ApiContext, work: () => Promise<Result>): Promise<Result> => {
    const { audit } = context.services;
    const act = actOf(args, context);
    try {
      return await (isMutation ? audit.record(act, work) : work());
    } catch (error) {
      if (error instanceof DomainError && isDenial(error.code)) await context.onRefusal(act, error.code);
      throw error;
    }
  };
  const { resolve = defaultFieldResolver, subscribe } = field;
  if (subscribe !== undefined) {
    field.subscribe = (source, args, context, info) =>
      audited(args, context, async () => {
        await checkPermission(args, context, info);
        return subscribe(source, args, context, info);
      });
    return;
  }
  field.resolve = (source, args, context, info) =>
    audited(args, context, async () => {
      await checkPermission(args, context, info);
      return resolve(source, args, context, info);
    });
}

/** The id or slug of the first object that the field touches by its rule, or else the id among its arguments. */
function subjectOf(args: Args, { touches = {} }: FieldRule): string | null {
  return referenceAt(args, [...Object.values(touches).flat(), 'id', 'input.id']) ?? null;
}

function checkRole(viewer: Viewer, { role, action }: FieldRule): void {
  if (role !== 'ANYONE') authorise(viewer, role, action);
}

function faultsOfFields(fields: ReadonlyMap<string, Field>, rules: Rules): string[] {
  const missing = [...fields.keys()]
    .filter((name) => !Object.hasOwn(rules.fields, name))
    .map((name) => `${name} has no rule: add its line to FIELD_RULES.`);
  const stale = Object.keys(rules.fields)
    .filter((name) => !fields.has(name))
    .map((name) => `FIELD_RULES has a line for ${name}, which the schema does not have.`);
  return [...missing, ...stale];
}

function faultsOfTypes(schema: GraphQLSchema, roots: readonly GraphQLObjectType[], rules: Rules): string[] {
  const types = Object.values(schema.getTypeMap()).filter(
    (type) => isObjectType(type) && !roots.includes(type) && !type.name.startsWith('__'),
  );
  const missing = types
    .filter((type) => roleOfType(type.name, rules) === undefined)
    .map((type) => `The type ${type.name} has no role: add it to TYPE_ROLES.`);
  const names = new Set(types.map((type) => type.name));
  const stale = Object.values(rules.types)
    .flat()
    .filter((name) => !names.has(name))
    .map((name) => `TYPE_ROLES names the type ${name}, which the schema does not have.`);
  return [...missing, ...stale];
}

function faultsOfReach(schema: GraphQLSchema, fields: ReadonlyMap<string, Field>, rules: Rules): string[] {
  return [...fields].flatMap(([name, field]) => {
    const role = rules.fields[name]?.role;
    if (role === undefined) return [];
    return [...reachedFrom(schema, getNamedType(field.type))].flatMap((type) => {
      const needed = roleOfType(type, rules);
      return needed === undefined || rankOf(needed) <= rankOf(role)
        ? []
        : [`${name} is open to ${role} but can reach the type ${type}, which needs ${needed}.`];
    });
  });
}

/** Names of the object types that a query can reach from `start`. */
function reachedFrom(schema: GraphQLSchema, start: GraphQLNamedType): Set<string> {
  const reached = new Set<string>();
  const waiting = [start];
  for (let type = waiting.pop(); type !== undefined; type = waiting.pop()) {
    if (isAbstractType(type)) waiting.push(...schema.getPossibleTypes(type));
    if (!isObjectType(type) || reached.has(type.name)) continue;
    reached.add(type.name);
    waiting.push(...Object.values(type.getFields()).map((field) => getNamedType(field.type)));
  }
  return reached;
}

function roleOfType(name: string, rules: Rules): NeededRole | undefined {
  const base = name.replace(/(Connection|Edge|Payload)$/, '');
  return (
    ROLES_FROM_LEAST.find((role) => rules.types[role]?.includes(name)) ??
    ROLES_FROM_LEAST.find((role) => rules.types[role]?.includes(base))
  );
}

const ROLES_FROM_LEAST: readonly NeededRole[] = ['ANYONE', ...ACCESS_ROLES];

function rankOf(role: NeededRole): number {
  return ROLES_FROM_LEAST.indexOf(role);
}
