/** Who may do what: roles are ordered, each may do what the ones before it may. And how a key is written and checked. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { DomainError } from '../../errors.ts';

export const ACCESS_ROLES = ['READER', 'CONTRIBUTOR', 'OPERATOR', 'ADMIN'] as const;
export type AccessRole = (typeof ACCESS_ROLES)[number];

/** Whoever sent the request. ANONYMOUS has no key. */
export type Viewer =
  | { readonly kind: 'ANONYMOUS'; readonly mayRead: boolean }
  | { readonly kind: 'KEY'; readonly keyId: string; readonly name: string; readonly role: AccessRole };

/** Passes when the viewer's role reaches `needed`; reading is also open to anonymous viewers where the server says so. */
export function authorise(viewer: Viewer, needed: AccessRole): void {
  if (viewer.kind === 'ANONYMOUS') {
    if (needed === 'READER' && viewer.mayRead) return;
    throw new DomainError({
      code: 'UNAUTHENTICATED',
      message: 'This needs a key.',
      hint: 'Send "Authorization: Bearer <key>"; the first key is in the file admin-key of the data directory.',
    });
  }
  if (ACCESS_ROLES.indexOf(viewer.role) >= ACCESS_ROLES.indexOf(needed)) return;
  throw new DomainError({ code: 'FORBIDDEN', message: `This needs the role ${needed}; the key "${viewer.name}" has ${viewer.role}.`, hint: 'Ask an ADMIN for a key with that role.' });
}

/** Random bytes in a key's secret, and in the salt of its hash. */
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

/** Hex. One round of SHA-256 is enough: the secret is 256 random bits, not a password that can be guessed. */
export function hashSecret(salt: string, secret: string): string {
  return createHash('sha256').update(`${salt}:${secret}`).digest('hex');
}

/** Compares in a time that does not tell how much was right. */
export function secretMatches(secret: string, salt: string, hash: string): boolean {
  const wanted = Buffer.from(hash, 'hex');
  const given = Buffer.from(hashSecret(salt, secret), 'hex');
  return wanted.length === given.length && timingSafeEqual(wanted, given);
}
