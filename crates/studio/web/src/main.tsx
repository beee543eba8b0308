import { render } from "preact";
import "uplot/dist/uPlot.min.css";
// Later rules win: the order is the cascade's.
import "./styles/ground.css";
import "./styles/layout.css";
import "./styles/controls.css";
import "./styles/data.css";
import "./styles/desk.css";
import "./styles/narrow.css";
import "./styles/models.css";
import { App } from "./App";

render(<App />, document.getElementById("app")!);
