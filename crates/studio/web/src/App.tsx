import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { Link, Route, Switch, useLocation } from "wouter-preact";
import { type Key, language, speak, t } from "./i18n";
import { useSignal } from "./i18n/signal";
import { Annotate } from "./pages/Annotate";
import { Compare } from "./pages/Compare";
import { DataPage } from "./pages/Data";
import { DatasetPage } from "./pages/Dataset";
import { Home } from "./pages/Home";
import { ModelPage } from "./pages/Model";
import { ModelsPage } from "./pages/Models";
import { RunPage } from "./pages/Run";
import { RunsPage } from "./pages/Runs";
import { TrainPage } from "./pages/Train";
import { Icon, type IconName } from "./ui/Icon";

const places: { at: string; name: Key; icon: IconName }[] = [
  { at: "/", name: "home", icon: "home" },
  { at: "/data", name: "data", icon: "images" },
  { at: "/models", name: "models", icon: "model" },
  { at: "/train", name: "train", icon: "train" },
  { at: "/runs", name: "runs", icon: "runs" },
];

export function App() {
  const spoken = useSignal(language);
  const [location] = useLocation();
  useEffect(() => {
    // A new page begins at its top, for the eye and for the screen reader.
    window.scrollTo(0, 0);
    document.getElementById("content")?.focus({ preventScroll: true });
  }, [location]);
  return (
    <div class="shell" key={spoken}>
      <a class="skip" href="#content">
        {t("skip")}
      </a>
      <header class="side">
        <Link href="/" class="brand">
          <Icon name="fork" />
          onsa
        </Link>
        <nav aria-label="onsa">
          {places.map(({ at, name, icon }) => {
            const here = at === "/" ? location === "/" : location.startsWith(at) || (at === "/runs" && location.startsWith("/compare"));
            return (
              <Link key={at} href={at} class={here ? "here" : ""} aria-current={here ? "page" : undefined}>
                <Icon name={icon} />
                <span>{t(name)}</span>
              </Link>
            );
          })}
        </nav>
        <Choices />
      </header>
      <main id="content" tabIndex={-1}>
        <Switch>
          <Route path="/" component={Home} />
          <Route path="/data" component={DataPage} />
          <Route path="/data/:id/image/:image">{(p) => <Annotate dataset={+p.id} image={+p.image} />}</Route>
          <Route path="/data/:id">{(p) => <DatasetPage id={+p.id} />}</Route>
          <Route path="/models" component={ModelsPage} />
          <Route path="/models/:id">{(p) => <ModelPage id={+p.id} />}</Route>
          <Route path="/train" component={TrainPage} />
          <Route path="/runs" component={RunsPage} />
          <Route path="/runs/:id">{(p) => <RunPage id={+p.id} />}</Route>
          <Route path="/compare" component={Compare} />
          <Route>
            <p>{t("notFound")}</p>
          </Route>
        </Switch>
      </main>
    </div>
  );
}

function Choices() {
  return (
    <div class="choices">
      <button
        type="button"
        class="quiet"
        lang={language.get() === "en" ? "ja" : "en"}
        onClick={() => speak(language.get() === "en" ? "ja" : "en")}
      >
        {language.get() === "en" ? "日本語" : "English"}
      </button>
      <button type="button" class="quiet" aria-label={t("theme")} title={t("theme")} onClick={turn}>
        <Icon name="theme" />
      </button>
    </div>
  );
}

function turn() {
  const root = document.documentElement;
  const dark = getComputedStyle(root).colorScheme === "dark" || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  window.dispatchEvent(new Event("theme"));
}
const kept = localStorage.getItem("theme");
if (kept) document.documentElement.dataset.theme = kept;

export type Children = ComponentChildren;
