// The page of routes: openapi.json as a list.

const make = (name, text, ...children) => {
  const node = document.createElement(name);
  if (text) node.textContent = text;
  node.append(...children);
  return node;
};

// A schema without references, as one list of fields with those that are required.
const fieldsOf = (schema, all) => {
  if (schema.$ref) return fieldsOf(all[schema.$ref.split("/").pop()], all);
  const parts = (schema.allOf ?? []).map((part) => fieldsOf(part, all));
  const own = { fields: Object.entries(schema.properties ?? {}), required: schema.required ?? [] };
  return [own, ...parts].reduce((sum, part) => ({
    fields: [...sum.fields, ...part.fields],
    required: [...sum.required, ...part.required],
  }));
};

const kindOf = (schema) => [schema.type ?? "any"].flat().join(" or ");

const route = (path, method, operation, all) => {
  const summary = make("summary", "", make("code", `${method.toUpperCase()} ${path}`), operation.summary);
  const details = make("details", "", summary);
  const schema = operation.requestBody?.content["application/json"].schema;
  if (!schema) return details;
  const { fields, required } = fieldsOf(schema, all);
  const list = make("dl");
  for (const [name, field] of fields) {
    const needed = required.includes(name) ? ", required" : "";
    const description = field.description ? `: ${field.description}` : "";
    list.append(make("dt", "", make("code", name)), make("dd", `${kindOf(field)}${needed}${description}`));
  }
  details.append(list);
  return details;
};

const show = (api) => {
  const all = api.components.schemas;
  const families = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const family = operation.tags[0];
      if (!families.has(family)) families.set(family, make("section", "", make("h2", family)));
      families.get(family).append(route(path, method, operation, all));
    }
  }
  document.getElementById("routes").replaceChildren(...families.values());
};

try {
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(`status ${response.status}`);
  show(await response.json());
} catch (error) {
  document.getElementById("routes").textContent = `The routes cannot be read: ${error.message}`;
}
