/** Sign-in with a key, which is exchanged for a session and not stored. */
import { getRouteApi, useNavigate } from '@tanstack/react-router';
import { useState, type SyntheticEvent } from 'react';
import { signIn } from '../api/session.ts';
import { Failure, useTitle } from '../ui/parts.tsx';

const signInRoute = getRouteApi('/sign-in');

export function SignInPage() {
  useTitle('Sign in');
  const { from } = signInRoute.useSearch();
  const navigate = useNavigate();
  const [error, setError] = useState<Error>();
  const [isTrying, setTrying] = useState(false);

  const submit = async (event: SyntheticEvent<HTMLFormElement>): Promise<void> => {
    event.preventDefault();
    const key = String(new FormData(event.currentTarget).get('key')).trim();
    setTrying(true);
    try {
      await signIn(key);
      await navigate({ href: from?.startsWith('/') === true && !from.startsWith('//') ? from : '/datasets' });
    } catch (reason) {
      setError(reason instanceof Error ? reason : new Error(String(reason)));
      setTrying(false);
    }
  };

  return (
    <form
      className="sheet"
      style={{ maxWidth: '32rem', width: '100%', margin: '2rem auto' }}
      onSubmit={(event) => void submit(event)}
    >
      <h1>Sign in</h1>
      <p className="soft">
        Every change needs a key, and the server may also require one for reading. The first key is in the file{' '}
        <code>admin-key</code> of the server's data directory: <code>cat .paraffin/admin-key</code>
      </p>
      <label htmlFor="key">Key</label>
      <input id="key" name="key" type="password" autoComplete="off" required placeholder="pfn_…" spellCheck={false} />
      {error !== undefined && <Failure error={error} />}
      <div className="row between">
        <span className="soft small">You stay signed in for some hours. The browser does not store the key.</span>
        <button type="submit" className="primary" disabled={isTrying}>
          Sign in
        </button>
      </div>
    </form>
  );
}
