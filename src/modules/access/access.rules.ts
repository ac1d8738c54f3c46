/** Who may do what: roles are ordered, each may do what the ones before it may. */
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
