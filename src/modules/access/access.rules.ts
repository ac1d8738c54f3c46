/**
 * Authorisation rules and the format of access keys. Roles are ordered: each role includes the permissions of the roles
 * before it, and a key may be restricted further.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { DomainError } from '../../errors.ts';

export const ACCESS_ROLES = ['READER', 'CONTRIBUTOR', 'OPERATOR', 'ADMIN'] as const;
export type AccessRole = (typeof ACCESS_ROLES)[number];

/**
 * READ: queries, downloads, subscriptions. CATALOGUE: editing metadata of datasets and models. IMPORT: bringing bytes
 * into the registry. LAUNCH: starting and ending runs. DELETE: deletions. ADMINISTER: keys and the audit log. WORK:
 * executing runs.
 */
export const ACCESS_ACTIONS = ['READ', 'CATALOGUE', 'IMPORT', 'LAUNCH', 'DELETE', 'ADMINISTER', 'WORK'] as const;
export type AccessAction = (typeof ACCESS_ACTIONS)[number];

/** Restrictions of a key beyond its role; null means unrestricted. */
export interface KeyScopes {
  readonly actions: readonly AccessAction[] | null;
  /**
   * The resources that the key may change: `dataset:slug` or `model:slug`, with `*` for all of a kind. Reading is not
   * restricted.
   */
  readonly resources: readonly string[] | null;
}

export const UNLIMITED: KeyScopes = { actions: null, resources: null };

/** The sender of a request. ANONYMOUS has no key. */
export type Viewer =
  | { readonly kind: 'ANONYMOUS'; readonly mayRead: boolean }
  | {
      readonly kind: 'KEY';
      readonly keyId: string;
      /** Id of the key. */
      readonly name: string;
      /** The person who is responsible for actions taken with the key. */
      readonly owner: string;
      readonly role: AccessRole;
      readonly scopes: KeyScopes;
    };

/** The facts of a key that identify its holder and decide whether it is valid. */
export interface KeyFacts {
  readonly id: string;
  readonly name: string;
  readonly owner: string;
  readonly role: AccessRole;
  /** Empty: not limited. */
  readonly actions: readonly AccessAction[];
  /** Empty: not limited. */
  readonly resources: readonly string[];
  readonly expiresAt: Date | null;
  readonly revokedAt: Date | null;
}

export function viewerOfKey({ id, name, owner, role, actions, resources }: KeyFacts): Viewer & { kind: 'KEY' } {
  const limited = <Item>(list: readonly Item[]): readonly Item[] | null => (list.length === 0 ? null : list);
  return {
    kind: 'KEY',
    keyId: id,
    name,
    owner,
    role,
    scopes: { actions: limited(actions), resources: limited(resources) },
  };
}

/** Why a key is no longer valid; undefined if it is valid. */
export function faultOfKey({ name, revokedAt, expiresAt }: KeyFacts, now: Date): string | undefined {
  if (revokedAt !== null) return `The key "${name}" was revoked.`;
  return expiresAt !== null && expiresAt <= now ? `The key "${name}" has expired.` : undefined;
}

/** The person who is responsible for the actions of the viewer; null without a key. */
export function personOf(viewer: Viewer): string | null {
  return viewer.kind === 'KEY' ? viewer.owner : null;
}

/**
 * Passes if the viewer's role includes `needed`, and the key is not limited to other kinds of action. Anonymous
 * viewers may also read, if the server is configured so.
 * @param action the requested action, checked where the request enters. Internal calls leave it out, because one action
 * may lead to another: an import looks up its dataset.
 * @throws DomainError UNAUTHENTICATED or FORBIDDEN.
 */
export function authorise(viewer: Viewer, needed: AccessRole, action?: AccessAction): void {
  if (viewer.kind === 'ANONYMOUS') {
    if (needed === 'READER' && viewer.mayRead) return;
    throw new DomainError({
      code: 'UNAUTHENTICATED',
      message: 'This operation needs a key.',
      hint: 'Send "Authorization: Bearer <key>"; the first key is in the file admin-key of the data directory.',
    });
  }
  if (ACCESS_ROLES.indexOf(viewer.role) < ACCESS_ROLES.indexOf(needed)) {
    throw new DomainError({
      code: 'FORBIDDEN',
      message: `This operation needs the role ${needed}; the key "${viewer.name}" has ${viewer.role}.`,
      hint: 'Ask an ADMIN for a key with that role.',
    });
  }
  if (action !== undefined && viewer.scopes.actions?.includes(action) === false) {
    throw new DomainError({
      code: 'FORBIDDEN',
      message: `This operation needs the action ${action}; the key "${viewer.name}" is limited to ${viewer.scopes.actions.join(', ')}.`,
      hint: 'Use a key without this limit.',
    });
  }
}

/**
 * Passes if the key may change all of these resources.
 * @param resources as `dataset:slug` or `model:slug`; undefined where the changed resources cannot be determined; a
 * restricted key is then refused.
 * @throws DomainError FORBIDDEN.
 */
export function authoriseChange(viewer: Viewer, resources: readonly string[] | undefined): void {
  if (viewer.kind === 'ANONYMOUS' || viewer.scopes.resources === null) return;
  const limits = viewer.scopes.resources;
  const isCovered = (resource: string): boolean =>
    limits.includes(resource) || limits.includes(`${resource.slice(0, resource.indexOf(':'))}:*`);
  if (resources !== undefined && resources.length > 0 && resources.every(isCovered)) return;
  throw new DomainError({
    code: 'FORBIDDEN',
    message: `The key "${viewer.name}" may change only ${limits.join(', ')}.`,
    hint: 'Use a key without this limit.',
  });
}

const DAY_MS = 86_400_000;
const RESOURCE_PATTERN = /^(dataset|model):(\*|[a-z0-9]+(-[a-z0-9]+)*)$/;
const labelSchema = z
  .string()
  .trim()
  .min(1, 'must not be empty')
  .max(100, 'must have at most 100 characters')
  .regex(/^[^\p{Cc}]*$/u, 'must not contain control characters');

export const createKeySchema = z.strictObject({
  name: labelSchema,
  owner: labelSchema,
  role: z.enum(ACCESS_ROLES),
  actions: z
    .array(z.enum(ACCESS_ACTIONS))
    .min(1, 'must contain at least one item; leave it out to allow all')
    .max(ACCESS_ACTIONS.length)
    .nullish(),
  resources: z
    .array(z.string().max(200).regex(RESOURCE_PATTERN, 'must be dataset:slug or model:slug, or * for the slug'))
    .min(1, 'must contain at least one item; leave it out to allow all')
    .max(100)
    .nullish(),
  expiresAt: z.date().nullish(),
});

/**
 * The instant at which a new key expires: a year from now unless its creator chose another; null means never.
 * @throws DomainError BAD_INPUT for an instant that has passed.
 */
export function expiryOf(wanted: Date | null | undefined, now: Date): Date | null {
  if (wanted === undefined) return new Date(now.getTime() + 365 * DAY_MS);
  if (wanted === null || wanted > now) return wanted;
  throw new DomainError({
    code: 'BAD_INPUT',
    message: 'expiresAt is in the past.',
    field: 'input.expiresAt',
    hint: 'Leave it out for a year from now; null means never.',
  });
}

/** Lengths of a key's secret and of the salt of its hash, in random bytes. */
export const SECRET_BYTES = 32;
export const SALT_BYTES = 16;

const KEY_PATTERN = /^pfn_([0-9a-f]{32})_([A-Za-z0-9_-]{43})$/;

export interface KeyParts {
  /** uuid */
  readonly id: string;
  readonly secret: string;
}

/** `pfn_<id>_<secret>`: the row is found by the id, so that only one hash has to be compared. */
export function writeKey({ id, secret }: KeyParts): string {
  return `pfn_${id.replaceAll('-', '')}_${secret}`;
}

export function readKey(text: string): KeyParts | undefined {
  const [, hex, secret] = KEY_PATTERN.exec(text) ?? [];
  if (hex === undefined || secret === undefined) return undefined;
  return { id: hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'), secret };
}

/** The key in an Authorization header, by the Bearer scheme (RFC 6750); undefined for any other header. */
export function bearerKey(authorization: string): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(authorization)?.[1];
}

/** The public part of a key in an Authorization header, whether or not the key is valid. */
export function claimedKeyId(authorization: string): string | undefined {
  return readKey(bearerKey(authorization) ?? '')?.id;
}

const SESSION_TOKEN_PATTERN = /^[A-Za-z0-9_-]{43}$/;

export function isSessionToken(text: string): boolean {
  return SESSION_TOKEN_PATTERN.test(text);
}

/** Hex. The database stores only this digest of a token; no salt is needed, because a token has 256 random bits. */
export function digestOfSessionToken(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

/** The instant at which a session ends: after its lifetime, or when its key expires. */
export function sessionEnd(now: Date, lifetimeMs: number, keyExpiresAt: Date | null): Date {
  return new Date(Math.min(now.getTime() + lifetimeMs, keyExpiresAt?.getTime() ?? Infinity));
}

/** Hex. One round of SHA-256 is enough: the secret is 256 random bits, not a password that can be guessed. */
export function hashSecret(salt: string, secret: string): string {
  return createHash('sha256').update(`${salt}:${secret}`).digest('hex');
}

/** Compares in constant time, so that the duration does not reveal how many characters match. */
export function secretMatches(secret: string, salt: string, hash: string): boolean {
  const wanted = Buffer.from(hash, 'hex');
  const presentedHash = Buffer.from(hashSecret(salt, secret), 'hex');
  return wanted.length === presentedHash.length && timingSafeEqual(wanted, presentedHash);
}
