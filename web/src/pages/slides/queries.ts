/** GraphQL queries of the page of a slide. */
import { graphql, type ResultOf } from '../../api/graphql.ts';

export const SLIDE = graphql(`
  query Slide($versionId: ID!, $position: Int!) {
    node(id: $versionId) {
      ... on DatasetVersion {
        id
        version
        patchSizePx
        dataset {
          slug
          name
        }
        slide(position: $position) {
          position
          path
          status
          reason
          fileDigest
          fileByteSize
          label
          group
          split
          vendor
          width
          height
          micronsPerPixel {
            x
            y
            source
            property
          }
          objective
          patchCount
          tissueFraction
          penFraction
          thumbnailUrl
          tissueMaskUrl
          tilesUrl
        }
      }
    }
  }
`);
type Version = Extract<NonNullable<ResultOf<typeof SLIDE>['node']>, { slide: unknown }>;
export type SlideVersion = Version;
export type SlideDetail = NonNullable<Version['slide']>;

/** Apart, because it reads the manifest. */
export const SLIDE_PATCHES = graphql(`
  query SlidePatches($versionId: ID!, $position: Int!) {
    node(id: $versionId) {
      ... on DatasetVersion {
        slidePatches(position: $position) {
          firstRow
          width
          height
          x
          y
        }
      }
    }
  }
`);
type VersionWithPatches = Extract<NonNullable<ResultOf<typeof SLIDE_PATCHES>['node']>, { slidePatches: unknown }>;
export type SlidePatches = NonNullable<VersionWithPatches['slidePatches']>;
