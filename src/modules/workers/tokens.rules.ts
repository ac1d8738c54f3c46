/** The token of a claimed run: good for one run and one lease. Pure. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { DomainError } from '../../errors.ts';
import type { RunLease } from '../../protocol/runs.ts';
import { leaseLost } from '../runs/index.ts';

/** Length of the secret in random bytes. */
export const TOKEN_SECRET_BYTES = 32;

const TOKEN_PATTERN = /^pft_([0-9a-f]{32})_(\d{1,9})_([A-Za-z0-9_-]{43})$/;

/** @param secret base64url of TOKEN_SECRET_BYTES random bytes. */
export function writeToken({ runId, epoch }: RunLease, secret: string): string {
  return `pft_${runId.replaceAll('-', '')}_${epoch}_${secret}`;
}

export interface TokenParts {
  readonly lease: RunLease;
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
  return { lease: { runId, epoch: Number(epoch) }, secret };
}

/** Hex. The database has only this digest; no salt is needed, because a secret has 256 random bits. */
export function digestOfSecret(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

/**
 * @param stored what the registry knows of the run; undefined for a run that it does not have.
 * @throws DomainError UNAUTHENTICATED, or LEASE_LOST for the token of an earlier lease.
 */
export function checkToken(
  { lease, secret }: TokenParts,
  stored: { readonly tokenDigest: string | null; readonly epoch: number } | undefined,
): void {
  if (stored === undefined) throw badToken('The token is of a run that this registry does not have.');
  // The run was claimed again since, or has ended, or its worker gave it back.
  if (stored.epoch !== lease.epoch || stored.tokenDigest === null) throw leaseLost();
  if (!timingSafeEqual(Buffer.from(digestOfSecret(secret), 'hex'), Buffer.from(stored.tokenDigest, 'hex')))
    throw badToken('The token is wrong.');
}

export function badToken(message: string): DomainError {
  return new DomainError({
    code: 'UNAUTHENTICATED',
    message,
    hint: 'Send "Authorization: Bearer pft_..." with the token that came with the claimed run.',
  });
}
