//! A Grafana dashboard as JSON: panels laid out in a grid of 24 columns, and the variables that they use.

use serde_json::{Value, json};

/// The dashboard format that is written: Grafana 10's, which later ones read.
const SCHEMA: u64 = 39;
/// Heights, in Grafana's grid units.
const STAT_HEIGHT: u64 = 4;
const GRAPH_HEIGHT: u64 = 8;
const WIDTH: u64 = 24;

/// How a panel shows its figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One figure.
    Stat,
    /// Lines over time.
    Lines,
    /// Lines over time, one upon the other: the figures add up.
    Stack,
    /// The latest figures, a row for each series.
    Table,
}

/// A panel.
pub(super) struct Panel {
    title: String,
    description: String,
    unit: &'static str,
    kind: Kind,
    /// PromQL, and what its series are called.
    targets: Vec<(String, String)>,
}

impl Panel {
    pub(super) fn new(kind: Kind, unit: &'static str, title: impl Into<String>, description: &str) -> Self {
        Self { title: title.into(), description: description.to_owned(), unit, kind, targets: Vec::new() }
    }

    /// Adds an expression; the legend names the labels that tell its series apart.
    pub(super) fn query(mut self, expression: impl Into<String>, legend: &str) -> Self {
        self.targets.push((expression.into(), legend.to_owned()));
        self
    }

    fn size(&self) -> (u64, u64) {
        match self.kind {
            Kind::Stat => (WIDTH / 4, STAT_HEIGHT),
            Kind::Lines | Kind::Stack | Kind::Table => (WIDTH / 2, GRAPH_HEIGHT),
        }
    }

    fn json(&self, id: u64, x: u64, y: u64) -> Value {
        let (w, h) = self.size();
        let instant = matches!(self.kind, Kind::Stat | Kind::Table);
        let targets = self.targets.iter().zip('A'..).map(|((expression, legend), name)| {
            json!({
                "datasource": datasource(), "expr": expression, "legendFormat": legend, "refId": name.to_string(),
                "instant": instant, "range": !instant,
                "format": if self.kind == Kind::Table { "table" } else { "time_series" },
            })
        });
        json!({
            "id": id, "title": self.title, "description": self.description, "type": self.plugin(),
            "gridPos": {"x": x, "y": y, "w": w, "h": h}, "datasource": datasource(),
            "targets": targets.collect::<Vec<_>>(),
            "fieldConfig": {"defaults": self.defaults(), "overrides": []},
            "options": self.options(),
        })
    }

    fn plugin(&self) -> &'static str {
        match self.kind {
            Kind::Stat => "stat",
            Kind::Lines | Kind::Stack => "timeseries",
            Kind::Table => "table",
        }
    }

    fn defaults(&self) -> Value {
        match self.kind {
            Kind::Stat | Kind::Table => json!({"unit": self.unit}),
            Kind::Lines | Kind::Stack => {
                let stack = if self.kind == Kind::Stack { "normal" } else { "none" };
                let fill = if self.kind == Kind::Stack { 30 } else { 0 };
                let custom =
                    json!({"stacking": {"mode": stack, "group": "A"}, "fillOpacity": fill, "showPoints": "never"});
                json!({"unit": self.unit, "min": 0, "custom": custom})
            }
        }
    }

    fn options(&self) -> Value {
        match self.kind {
            Kind::Stat => {
                json!({"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", "graphMode": "none"})
            }
            Kind::Table => json!({"showHeader": true}),
            Kind::Lines | Kind::Stack => json!({
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
        }
    }
}

/// A variable: its name, the metric and label that its values are read from, and whether several can be chosen.
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) metric: &'static str,
    pub(super) several: bool,
}

impl Variable {
    fn json(&self) -> Value {
        let query = format!("label_values({}, {})", self.metric, self.name);
        json!({
            "name": self.name, "label": self.name, "type": "query", "datasource": datasource(),
            "definition": query, "query": {"query": query, "refId": "values"}, "refresh": 2, "sort": 1,
            "multi": self.several, "includeAll": self.several, "allValue": ".+",
        })
    }
}

/// A dashboard.
pub(super) struct Dashboard {
    /// Grafana's key, by which it is replaced by a later version.
    pub(super) uid: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    pub(super) variables: Vec<Variable>,
    /// Rows of panels, each with its heading.
    pub(super) sections: Vec<(&'static str, Vec<Panel>)>,
}

impl Dashboard {
    /// The file's text.
    pub(super) fn text(&self) -> String {
        let mut variables = vec![json!({
            "name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus",
        })];
        variables.extend(self.variables.iter().map(Variable::json));
        let description = format!("{} (Made by `cargo xtask codegen`; don't edit.)", self.description);
        let all = json!({
            "uid": self.uid, "title": self.title, "description": description, "tags": ["zcprof"],
            "schemaVersion": SCHEMA, "editable": true, "graphTooltip": 1, "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
            "templating": {"list": variables}, "panels": self.panels(),
        });
        format!("{all:#}\n")
    }

    fn panels(&self) -> Vec<Value> {
        let (mut all, mut top) = (Vec::new(), 0);
        for (heading, panels) in &self.sections {
            let id = all.len() as u64 + 1;
            all.push(json!({
                "id": id, "type": "row", "title": heading, "collapsed": false, "panels": [],
                "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            }));
            top += 1;
            let (mut x, mut height) = (0, 0);
            for panel in panels {
                let (w, h) = panel.size();
                if x + w > WIDTH || (height != 0 && height != h) {
                    (x, top) = (0, top + height);
                }
                all.push(panel.json(all.len() as u64 + 1, x, top));
                (x, height) = (x + w, h);
            }
            top += height;
        }
        all
    }
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}
