//! The colours of all plots. The series are those of Okabe and Ito (2008), told apart with any colour vision; the sixth and
//! seventh replace their yellow and black, which vanish on a light or a dark ground.

/// How many series have a colour of their own.
pub const SERIES: usize = 7;

/// One set of colours.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    ground: &'static str,
    ink: &'static str,
    muted: &'static str,
    grid: &'static str,
    faint: &'static str,
    strong: &'static str,
    cell: &'static str,
    on_cell: &'static str,
    series: [&'static str; SERIES],
}

/// Dark on light.
pub const LIGHT: Theme = Theme {
    ground: "#ffffff",
    ink: "#1f2933",
    muted: "#5b6874",
    grid: "#e6eaee",
    faint: "#a9b8c6",
    strong: "#003f6b",
    cell: "#0b5a96",
    on_cell: "#ffffff",
    series: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b4c9a"],
};

/// Light on dark.
pub const DARK: Theme = Theme {
    ground: "#171c22",
    ink: "#e7ebef",
    muted: "#9eabb8",
    grid: "#2b343d",
    faint: "#566472",
    strong: "#9fd3ff",
    cell: "#58aee8",
    on_cell: "#0d1216",
    series: ["#4ba6e0", "#f5843c", "#2cc296", "#e29bc3", "#f2b73f", "#93d5fb", "#ab8fd9"],
};

impl Theme {
    /// The style sheet for all elements below `.plot`.
    pub fn style(&self) -> String {
        let Theme { ground, ink, muted, grid, faint, strong, cell, on_cell, series } = self;
        let mut css = format!(
            ".plot text{{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;fill:{ink}}}\
             .plot .title{{font-size:15px;font-weight:600}}.plot .label{{font-size:12px;fill:{muted}}}\
             .plot .tick{{font-size:11px;fill:{muted}}}.plot .small{{font-size:10px}}\
             .plot .remark{{font-size:11px;paint-order:stroke;stroke:{ground};stroke-width:5px;stroke-linejoin:round}}\
             .plot .ground{{fill:{ground}}}.plot .grid{{stroke:{grid};stroke-width:1}}\
             .plot .axis{{stroke:{muted};stroke-width:1}}.plot .mark{{stroke:{muted};stroke-width:1;stroke-dasharray:3 3}}\
             .plot path{{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}}\
             .plot .faint{{stroke:{faint};stroke-width:1}}.plot .strong{{stroke:{strong};stroke-width:3}}\
             .plot .dot{{fill:{ground};stroke:{strong};stroke-width:2}}\
             .plot .cell{{fill:{cell}}}.plot .frame{{fill:none;stroke:{grid}}}.plot text.on{{fill:{on_cell}}}"
        );
        for (index, colour) in series.iter().enumerate() {
            css.push_str(&format!(".plot .s{index}{{stroke:{colour}}}"));
        }
        css
    }
}
