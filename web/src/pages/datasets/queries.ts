/** GraphQL queries of the pages of datasets. */
import { IMPORT_ISSUE_FIELDS } from '../../api/fragments.ts';
import { graphql, type ResultOf } from '../../api/graphql.ts';

const FACET_FIELDS = graphql(`
  fragment FacetFields on FacetCount {
    value
    name
    count
  }
`);

const TISSUE_FIELDS = graphql(`
  fragment TissueFields on Dataset {
    organs {
      code
      name
    }
    stains {
      code
      name
    }
    resolutions {
      magnification
      totalMagnification
      micronsPerPixel
    }
  }
`);

export const DATASETS = graphql(
  `
    query Datasets($filter: DatasetFilter, $orderBy: DatasetOrder, $first: Int, $after: String) {
      datasets(filter: $filter, orderBy: $orderBy, first: $first, after: $after) {
        totalCount
        pageInfo {
          hasNextPage
          endCursor
        }
        nodes {
          id
          slug
          name
          synthetic
          provenance
          imageKind
          imageCount
          slideCount
          publishedYear
          licence
          tasks
          ...TissueFields
          latestVersion {
            id
            version
            imageCount
            thumbnails {
              position
              url
              label
            }
          }
        }
      }
    }
  `,
  [TISSUE_FIELDS],
);
export type DatasetRow = ResultOf<typeof DATASETS>['datasets']['nodes'][number];

export const DATASET_FACETS = graphql(
  `
    query DatasetFacets($filter: DatasetFilter) {
      datasetFacets(filter: $filter) {
        datasetCount
        organs {
          ...FacetFields
        }
        stains {
          ...FacetFields
        }
        imageKinds {
          ...FacetFields
        }
        magnifications {
          ...FacetFields
        }
        micronsPerPixelBounds {
          ...FacetFields
        }
        tasks {
          ...FacetFields
        }
        licences {
          ...FacetFields
        }
        provenances {
          ...FacetFields
        }
      }
    }
  `,
  [FACET_FIELDS],
);
export type DatasetFacets = ResultOf<typeof DATASET_FACETS>['datasetFacets'];

export const DATASET = graphql(
  `
    query Dataset($slug: String!) {
      dataset(slug: $slug) {
        id
        slug
        name
        description
        synthetic
        provenance
        provenanceNote
        imageKind
        imageCount
        slideCount
        imageSizeNote
        classNames
        tasks
        ihcMarkers
        licence
        publishedYear
        homepageUrl
        notes
        paperRoles
        parentCollections
        sourceUrls
        createdAt
        editedAt
        cardUrl
        ...TissueFields
        citation {
          authors
          title
          venue
          doi
          arxiv
        }
        subcollections {
          slug
          organ
          slideCount
          magnifications
          source
        }
        factSources {
          field
          evidence
          sourceUrls
        }
        versions(first: 50) {
          totalCount
          nodes {
            id
            version
            status
            digest
            digestRule
            manifestSha256
            patchSizePx
            imageCount
            byteSize
            groupCount
            hasSplit
            createdAt
            sealedAt
            labelCounts {
              label
              count
            }
            ungroupedImageCount
            issueListUrl
            issues {
              ...ImportIssueFields
            }
            thumbnails {
              position
              label
              url
            }
          }
        }
      }
    }
  `,
  [TISSUE_FIELDS, IMPORT_ISSUE_FIELDS],
);
export type DatasetDetail = NonNullable<ResultOf<typeof DATASET>['dataset']>;
export type DatasetVersionDetail = DatasetDetail['versions']['nodes'][number];

export const ISSUE_ENTRIES = graphql(`
  query IssueEntries($id: ID!, $kind: String, $after: String) {
    node(id: $id) {
      ... on DatasetVersion {
        issueEntries(first: 100, after: $after, kind: $kind) {
          pageInfo {
            hasNextPage
            endCursor
          }
          nodes {
            path
            reason
            relatedPath
          }
        }
      }
    }
  }
`);
export type IssueEntries = ResultOf<typeof ISSUE_ENTRIES>;
export type ListedIssues = Extract<NonNullable<IssueEntries['node']>, { issueEntries: unknown }>['issueEntries'];

export const TRAINED_ON = graphql(`
  query TrainedOn($datasetId: ID!) {
    checkpoints(filter: { trainedOnDatasetId: $datasetId }, first: 100) {
      totalCount
      nodes {
        id
        version
        encoder
        architecture {
          name
        }
        step
        createdAt
        model {
          slug
          name
        }
        trainedOn {
          id
          version
          dataset {
            slug
          }
        }
        sourceRun {
          id
        }
      }
    }
  }
`);
