/** Senders for tests of what lies behind the door. */
import { UNLIMITED, type AccessRole, type KeyScopes, type Viewer } from '../../src/modules/access/index.ts';

/** The holder of a key with that role, not limited unless the test says so. */
export function keyHolder(role: AccessRole, scopes: Partial<KeyScopes> = {}): Viewer {
  return {
    kind: 'KEY',
    keyId: '00000000-0000-7000-8000-000000000001',
    name: 'test',
    owner: 'Test',
    role,
    scopes: { ...UNLIMITED, ...scopes },
  };
}
