/** Small components that all pages use. */
import type { UseQueryResult } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useEffect, useState, type ReactNode } from 'react';
import { ApiError } from '../api/client.ts';

/** The result of a query, or its error. */
export function Loaded<Data>({
  of,
  children,
}: {
  readonly of: UseQueryResult<Data>;
  readonly children: (data: Data) => ReactNode;
}) {
  if (of.data !== undefined) {
    return (
      <>
        {of.isError && <Failure error={of.error} />}
        {children(of.data)}
      </>
    );
  }
  return of.isError ? (
    <Failure error={of.error} />
  ) : (
    <p className="soft" role="status">
      Loading …
    </p>
  );
}

/** An error message for the user: the problem, and what to do next. */
export function Failure({ error }: { readonly error: Error }) {
  const hint = error instanceof ApiError ? error.hint : null;
  const needsKey = error instanceof ApiError && (error.code === 'UNAUTHENTICATED' || error.code === 'FORBIDDEN');
  return (
    <div className="notice bad" role="alert">
      <strong>{error.message}</strong>
      {needsKey ? (
        <span>
          <Link to="/sign-in" search={{ from: location.pathname + location.search }}>
            Sign in with a key
          </Link>{' '}
          that may do this.
        </span>
      ) : (
        hint !== null && <span>{hint}</span>
      )}
      {error instanceof ApiError && error.requestId !== null && error.code === 'INTERNAL' && (
        <span className="soft small">Request {error.requestId}</span>
      )}
    </div>
  );
}

export interface UserErrorFacts {
  readonly code: string;
  readonly field: string | null;
  readonly message: string;
  readonly hint: string | null;
}

/** The user errors of a mutation. */
export function Refusals({ errors }: { readonly errors: readonly UserErrorFacts[] }) {
  if (errors.length === 0) return null;
  return (
    <div className="notice bad" role="alert">
      {errors.map((error) => (
        <div key={`${error.code} ${error.field}`}>
          <strong>{error.message}</strong> {error.hint} <code className="soft">{error.code}</code>
        </div>
      ))}
    </div>
  );
}

export function Empty({ title, children }: { readonly title: string; readonly children?: ReactNode }) {
  return (
    <div className="empty">
      <strong>{title}</strong>
      {children}
    </div>
  );
}

export type Tone = 'plain' | 'good' | 'bad' | 'warn' | 'busy' | 'accent';

export function Tag({
  tone = 'plain',
  title,
  children,
}: {
  readonly tone?: Tone;
  readonly title?: string;
  readonly children: ReactNode;
}) {
  return (
    <span className={`tag ${tone}`} {...(title === undefined ? {} : { title })}>
      {children}
    </span>
  );
}

export function Synthetic() {
  return (
    <span className="synthetic" title="Drawn by a program; not real tissue">
      SYNTHETIC
    </span>
  );
}

/** A list of names and values; an unknown value is shown as unknown. */
export function Facts({ children }: { readonly children: ReactNode }) {
  return <dl className="facts">{children}</dl>;
}

export function Fact({ name, children }: { readonly name: ReactNode; readonly children: ReactNode }) {
  const isUnknown =
    children === null ||
    children === undefined ||
    children === '' ||
    (Array.isArray(children) && children.length === 0);
  return (
    <>
      <dt>{name}</dt>
      <dd>{isUnknown ? <span className="soft">not known</span> : children}</dd>
    </>
  );
}

/** Text that is meant to be copied. */
export function Snippet({ text, label }: { readonly text: string; readonly label: string }) {
  return (
    <div className="copied">
      <pre tabIndex={0} aria-label={label}>
        {text}
      </pre>
      <CopyButton text={text} />
    </div>
  );
}

const COPIED_MESSAGE_MS = 1500;

export function CopyButton({ text, children = 'Copy' }: { readonly text: string; readonly children?: ReactNode }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return undefined;
    const timer = setTimeout(() => setCopied(false), COPIED_MESSAGE_MS);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <button type="button" onClick={() => void navigator.clipboard.writeText(text).then(() => setCopied(true))}>
      {copied ? 'Copied' : children}
    </button>
  );
}

export function Digest({ sha256 }: { readonly sha256: string }) {
  return <span className="digest">{sha256}</span>;
}

/** Sets the title of the tab. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title === '' ? 'Paraffin' : `${title} · Paraffin`;
  }, [title]);
}

/** Horizontal bars, each with its number, in the given order. */
export function Bars({
  items,
  unit,
}: {
  readonly items: readonly { readonly label: string; readonly value: number }[];
  readonly unit: string;
}) {
  const largest = Math.max(1, ...items.map((item) => item.value));
  return (
    <ul className="stack" style={{ gap: '0.3rem' }}>
      {items.map(({ label, value }) => (
        <li key={label} className="bar">
          <span className="wrap">{label}</span>
          <span className="track" aria-hidden="true">
            <span style={{ width: `${(100 * value) / largest}%` }} />
          </span>
          <span className="number">
            {value.toLocaleString('en-GB')}
            <span className="hidden"> {unit}</span>
          </span>
        </li>
      ))}
    </ul>
  );
}

export function Progress({ value, state }: { readonly value: number; readonly state: 'busy' | 'done' | 'ended' }) {
  return (
    <div
      className={`progress ${state}`}
      role="progressbar"
      aria-label="Progress"
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(value * 100)}
    >
      <span style={{ width: `${value * 100}%` }} />
    </div>
  );
}
