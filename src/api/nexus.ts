/** The only import of Nexus, so that it can be replaced. All types of the schema are declared with these functions. */
export {
  arg,
  enumType,
  extendType,
  floatArg,
  idArg,
  inputObjectType,
  intArg,
  interfaceType,
  list,
  makeSchema,
  nonNull,
  nullable,
  objectType,
  scalarType,
  stringArg,
  subscriptionType,
} from 'nexus';
