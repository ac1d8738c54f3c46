/** The frame around every page. */
import { Link, Outlet, useLocation, useRouter, type ErrorComponentProps } from '@tanstack/react-router';
import { useEffect, useRef, useState } from 'react';
import { signOut } from '../api/session.ts';
import { useViewer } from '../api/viewer.ts';
import { Empty, Failure } from '../ui/parts.tsx';
import { applyTheme, nextTheme, readTheme } from './theme.ts';

export function Layout() {
  const main = useRef<HTMLElement>(null);
  const { pathname } = useLocation();
  const shown = useRef(pathname);
  // The followed link no longer exists, so the focus moves to the new page for users of a keyboard or screen reader.
  useEffect(() => {
    if (shown.current !== pathname) main.current?.focus({ preventScroll: true });
    shown.current = pathname;
  }, [pathname]);
  return (
    <>
      <a className="skip" href="#main">
        Skip to content
      </a>
      <header className="top">
        <Link to="/datasets" className="brand">
          <svg viewBox="0 0 32 32" aria-hidden="true">
            <rect width="32" height="32" rx="7" fill="#6d2a5b" />
            <path
              d="M8 23V9.5h8.6a4.9 4.9 0 0 1 0 9.8H8"
              fill="none"
              stroke="#fbeef6"
              strokeWidth="3.2"
              strokeLinecap="round"
              strokeLinejoin="round"
            />
            <circle cx="23.2" cy="22.6" r="2.6" fill="#e39bc4" />
          </svg>
          Paraffin
        </Link>
        <nav className="nav" aria-label="Pages">
          <Link to="/datasets">Datasets</Link>
          <Link to="/models">Models</Link>
          <Link to="/runs">Runs</Link>
          <Link to="/leaderboard">Leaderboard</Link>
          <Link to="/new">New run</Link>
          <a href="/explorer">GraphQL</a>
          <AdminLinks />
        </nav>
        <div className="who">
          <ThemeButton />
          <SignedInUser />
        </div>
      </header>
      <main id="main" tabIndex={-1} ref={main}>
        <Outlet />
      </main>
      <footer className="foot">
        <span>Paraffin: a registry of histopathology datasets and encoders.</span>
        <Link to="/workers">Workers</Link>
        <a href="/explorer">GraphQL explorer</a>
      </footer>
    </>
  );
}

function AdminLinks() {
  const viewer = useViewer();
  if (viewer?.role !== 'ADMIN') return null;
  return (
    <>
      <Link to="/keys">Keys</Link>
      <Link to="/audit">Audit</Link>
    </>
  );
}

function ThemeButton() {
  const [theme, setTheme] = useState(readTheme);
  const change = (): void => {
    const next = nextTheme(theme);
    applyTheme(next);
    setTheme(next);
  };
  return (
    <button
      type="button"
      className="plain"
      onClick={change}
      aria-label={`Colours: ${theme}. Change`}
      title={`Colours: ${theme}`}
    >
      {theme === 'system' ? '◐' : theme === 'light' ? '☀' : '☾'}
    </button>
  );
}

function SignedInUser() {
  const viewer = useViewer();
  const [error, setError] = useState<Error>();
  const leave = async (): Promise<void> => {
    try {
      await signOut();
    } catch (reason) {
      setError(reason instanceof Error ? reason : new Error(String(reason)));
    }
  };
  if (viewer === undefined) return null;
  if (viewer === null)
    return (
      <Link to="/sign-in" className="button">
        Sign in
      </Link>
    );
  return (
    <>
      <span className="small soft">
        {viewer.name} · {viewer.role.toLowerCase()}
      </span>
      {error !== undefined && (
        <span className="small" role="alert">
          {error.message}
        </span>
      )}
      <button type="button" onClick={() => void leave()}>
        Sign out
      </button>
    </>
  );
}

export function NotFound() {
  return (
    <Empty title="This page does not exist">
      <Link to="/datasets">To the datasets</Link>
    </Empty>
  );
}

export function RouteFailure({ error }: ErrorComponentProps) {
  const router = useRouter();
  return (
    <div className="stack">
      <Failure error={error instanceof Error ? error : new Error(String(error))} />
      <button type="button" onClick={() => void router.invalidate()}>
        Try again
      </button>
    </div>
  );
}
