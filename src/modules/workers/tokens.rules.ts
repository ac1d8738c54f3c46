/** The token of a claimed run or part: good for it and one lease. Pure. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { DomainError } from '../../errors.ts';
import { leaseName, leaseNamed, type HeldLease } from '../../protocol/runs.ts';
import { leaseLost } from '../runs/index.ts';

/** Length of the secret in random bytes. */
export const TOKEN_SECRET_BYTES = 32;

const TOKEN_PATTERN = /^pft_([0-9a-f]{32})_((?:\d{1,9}p)?\d{1,9})_([A-Za-z0-9_-]{43})$/;
/** Of the id of a run, with which the name of a lease begins. */
const ID_LENGTH = 36;

/** @param secret base64url of TOKEN_SECRET_BYTES random bytes. */
export function writeToken(lease: HeldLease, secret: string): string {
  return `pft_${lease.runId.replaceAll('-', '')}_${leaseName(lease).slice(ID_LENGTH + 1)}_${secret}`;
}

export interface TokenParts {
  readonly lease: HeldLease;
  readonly secret: string;
}

export function isRunToken(text: string): boolean {
  return TOKEN_PATTERN.test(text);
}

/** @returns undefined for a text that is not a token. */
export function readToken(text: string): TokenParts | undefined {
  const [, hex, epoch, secret] = TOKEN_PATTERN.exec(text) ?? [];
  if (hex === undefined || secret === undefined) return undefined;
  const runId = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  const lease = leaseNamed(`${runId}-${epoch}`);
  return lease === undefined ? undefined : { lease, secret };
}

/** Hex. The database has only this digest; no salt is needed, because a secret has 256 random bits. */
export function digestOfSecret(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

/** What the registry knows of the token of a run or part; undefined for one that it does not have. */
type StoredToken = { readonly tokenDigest: string | null; readonly epoch: number } | undefined;

/** @throws DomainError UNAUTHENTICATED, or LEASE_LOST for the token of an earlier lease. */
export function checkToken(epoch: number, secret: string, stored: StoredToken): void {
  if (stored === undefined) throw badToken('The token is of a run that this registry does not have.');
  // The run was claimed again since, or has ended, or its worker gave it back.
  if (stored.epoch !== epoch || stored.tokenDigest === null) throw leaseLost();
  if (!isDigestOf(secret, stored.tokenDigest)) throw badToken('The token is wrong.');
}

/** @throws DomainError LEASE_LOST for any other token than that of who has the part: parts go with their run. */
export function checkPartToken(epoch: number, secret: string, stored: StoredToken): void {
  if (stored?.epoch !== epoch || stored.tokenDigest === null || !isDigestOf(secret, stored.tokenDigest))
    throw leaseLost();
}

function isDigestOf(secret: string, digest: string): boolean {
  return timingSafeEqual(Buffer.from(digestOfSecret(secret), 'hex'), Buffer.from(digest, 'hex'));
}

export function badToken(message: string): DomainError {
  return new DomainError({
    code: 'UNAUTHENTICATED',
    message,
    hint: 'Send "Authorization: Bearer pft_..." with the token that came with the claimed run.',
  });
}
