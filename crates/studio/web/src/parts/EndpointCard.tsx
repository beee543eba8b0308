// A model that answers programs: start, stop, and what to write to ask it.
import { useEffect, useState } from "preact/hooks";
import { type Endpoint, type Model, post, remove } from "../api/client";
import { useData } from "../api/live";
import { number, t } from "../i18n";
import { Act, Badge, Card, Facts, Meter, Tabs, Trouble } from "../ui";

const kinds = { starting: "busy", running: "good", stopping: "busy", failed: "bad" } as const;
/** The figures are asked for this often, in milliseconds. */
const LOOK_EVERY = 2000;

export function EndpointCard({ model }: { model: Model }) {
  const path = `/api/models/${model.id}/endpoint`;
  const { data, error, reload } = useData<{ endpoint: Endpoint | null }>(path, (e) => e.type === "endpoint" && e.model === model.id);
  const endpoint = data?.endpoint;
  const runs = endpoint?.state === "running";
  useEffect(() => {
    if (!runs) return;
    const timer = setInterval(reload, LOOK_EVERY);
    return () => clearInterval(timer);
  }, [runs, reload]);
  return (
    <Card class="endpoint">
      <h2>
        {t("endpoint")} {endpoint && <Badge kind={kinds[endpoint.state]}>{t(`endpoint_${endpoint.state}`)}</Badge>}
      </h2>
      <p class="soft">{t("endpointText")}</p>
      <Trouble of={error} />
      <Trouble of={endpoint?.error} />
      <div class="row">
        {!endpoint || endpoint.state === "failed" ? (
          <Act act={() => post(path)}>{t("endpointStart")}</Act>
        ) : (
          <Act act={() => remove(path)} disabled={endpoint.state === "stopping"}>
            {t("endpointStop")}
          </Act>
        )}
      </div>
      {endpoint?.state === "starting" && <Meter share={null} label={t("endpoint_starting")} />}
      {runs && endpoint.address && (
        <>
          <Facts
            of={[
              [t("endpointAddress"), <code>{endpoint.address}</code>],
              [t("endpointKey"), <code>{endpoint.key}</code>],
              [t("endpointAnswered"), endpoint.answered === null || endpoint.answered === undefined ? "–" : number(endpoint.answered)],
              [t("endpointRefused"), endpoint.refused === null || endpoint.refused === undefined ? "–" : number(endpoint.refused)],
            ]}
          />
          <Snippets address={endpoint.address} secret={endpoint.key} answer={model.about.task === "classify" ? classes : boxes} />
        </>
      )}
    </Card>
  );
}

type Language = "curl" | "python" | "javascript";

function Snippets({ address, secret, answer }: { address: string; secret: string; answer: Answer }) {
  const [at, go] = useState<Language>("curl");
  const [copied, copy] = useState<string>();
  const text = snippets[at](address, secret, answer);
  return (
    <>
      <p>{t("endpointSnippets")}</p>
      <Tabs<Language>
        at={at}
        go={go}
        names={[
          { id: "curl", name: "snippet_curl" },
          { id: "python", name: "snippet_python" },
          { id: "javascript", name: "snippet_javascript" },
        ]}
      />
      <pre class="snippet" tabIndex={0}>
        {text}
      </pre>
      <div class="row">
        <Act
          act={async () => {
            await navigator.clipboard.writeText(text);
            copy(text);
          }}
        >
          {t(copied === text ? "copied" : "copy")}
        </Act>
      </div>
    </>
  );
}

/** What an answer holds, and how a program prints an entry of it. */
interface Answer {
  key: string;
  python: string;
  javascript: [parts: string, printed: string];
}
const boxes: Answer = {
  key: "boxes",
  python: 'one["name"], round(one["score"], 2), one["xyxy"]',
  javascript: ["{ name, score, xyxy }", "name, score.toFixed(2), xyxy"],
};
const classes: Answer = { key: "top5", python: 'one["name"], round(one["score"], 2)', javascript: ["{ name, score }", "name, score.toFixed(2)"] };

const snippets: Record<Language, (address: string, secret: string, answer: Answer) => string> = {
  curl: (address, secret) => `curl -H "Authorization: Bearer ${secret}" --data-binary @photo.jpg ${address}/v1/predict`,
  python: (address, secret, { key, python }) => `import json
import urllib.request

with open("photo.jpg", "rb") as picture:
    request = urllib.request.Request(
        "${address}/v1/predict",
        data=picture.read(),
        headers={"Authorization": "Bearer ${secret}", "Content-Type": "application/octet-stream"},
    )
with urllib.request.urlopen(request) as answer:
    for one in json.load(answer)["${key}"]:
        print(${python})
`,
  javascript: (address, secret, { key, javascript: [parts, printed] }) => `import { readFile } from "node:fs/promises";

const answer = await fetch("${address}/v1/predict", {
  method: "POST",
  headers: { authorization: "Bearer ${secret}" },
  body: await readFile("photo.jpg"),
});
for (const ${parts} of (await answer.json()).${key}) {
  console.log(${printed});
}
`,
};
