/** Viewers for tests of the layers behind authentication. */
import { UNLIMITED, type AccessRole, type KeyScopes, type Viewer } from '../../src/modules/access/index.ts';

/** The holder of a key with that role, unrestricted unless the test specifies limits. */
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
