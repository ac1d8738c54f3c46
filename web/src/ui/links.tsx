/** Links to the pages of what has a name and a version. */
import { Link } from '@tanstack/react-router';

interface NamedCheckpoint {
  readonly version: number;
  readonly model: { readonly slug: string; readonly name: string };
}

/** The checkpoint on the page of its model. */
export function CheckpointLink({ checkpoint: { version, model } }: { readonly checkpoint: NamedCheckpoint }) {
  return (
    <Link to="/models/$slug" params={{ slug: model.slug }} search={{ version: String(version) }}>
      {model.name} v{version}
    </Link>
  );
}

interface NamedDatasetVersion {
  readonly version: number;
  readonly dataset: { readonly slug: string; readonly name: string };
}

/** The version on the page of its dataset. */
export function DatasetVersionLink({ version: { version, dataset } }: { readonly version: NamedDatasetVersion }) {
  return (
    <Link to="/datasets/$slug" params={{ slug: dataset.slug }} search={{ version: String(version) }}>
      {dataset.name} v{version}
    </Link>
  );
}
