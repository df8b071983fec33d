//! `#[derive(Adaptable)]` finds the slots of a model, so that nobody has to write a traversal by
//! hand.
//!
//! It is part of `burn-peft`: take it from there as `burn_peft::Adaptable`, whose page describes the
//! trait. Nothing else depends on this crate.
//!
//! The derive looks at the fields of one struct, or at the variants of one enum, each of which holds a
//! module. The name of each field or variant becomes a part of the paths to the slots in it:
//!
//! ```text
//! struct Block {                        paths of the slots
//!     attn: Attention,             ──>  attn.q_proj, attn.self
//!     mlp: LoraAdapter<Linear>,    ──>  mlp
//!     #[adaptable(skip)]
//!     rotary: Rotary,              ──>  none: the field is left out
//! }
//!
//! enum Head {
//!     Small(LoraAdapter<Linear>),  ──>  Small
//!     Deep(Mlp),                   ──>  Deep.fc1, Deep.fc2
//! }
//! ```
//!
//! ```standalone_crate
//! # // A stand-in for burn-peft, which depends on this crate and not the other way round.
//! # extern crate self as burn_peft;
//! # pub trait Slot {}
//! # pub struct Tree;
//! # impl Tree {
//! #     pub fn node<N>(_: &str, _: impl IntoIterator<Item = (N, Tree)>) -> Self { Self }
//! # }
//! # #[derive(Default)]
//! # pub struct Path(Vec<String>);
//! # impl Path {
//! #     pub fn within(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
//! #         self.0.push(name.into());
//! #         inside(self);
//! #         self.0.pop();
//! #     }
//! # }
//! # pub trait Adaptable {
//! #     fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot));
//! #     fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot));
//! #     fn tree(&self) -> Tree;
//! # }
//! # struct Layer;
//! # impl Slot for Layer {}
//! # impl Adaptable for Layer {
//! #     fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
//! #         visit(&path.0.join("."), self);
//! #     }
//! #     fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot)) {
//! #         visit(&path.0.join("."), self);
//! #     }
//! #     fn tree(&self) -> Tree { Tree }
//! # }
//! # fn main() {
//! use burn_peft_derive::Adaptable;
//!
//! #[derive(Adaptable)]
//! struct Attention {
//!     q_proj: Layer,
//!     #[adaptable(name = "self")]
//!     own: Layer,
//! }
//!
//! #[derive(Adaptable)]
//! struct Block {
//!     attn: Attention,
//!     mlp: Layer,
//!     #[adaptable(skip)]
//!     rotary: f64,
//! }
//!
//! let attn = Attention { q_proj: Layer, own: Layer };
//! let block = Block { attn, mlp: Layer, rotary: 10_000.0 };
//! let mut paths = Vec::new();
//! block.visit_slots(&mut Path::default(), &mut |path, _| paths.push(path.to_owned()));
//! assert_eq!(paths, ["attn.q_proj", "attn.self", "mlp"]);
//! # }
//! ```

mod key_docs;

use proc_macro::TokenStream;
use proc_macro2::Span;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DataEnum, DeriveInput, Error, Field, Fields, Ident, LitStr, parse_macro_input};

/// Derives `burn_peft::Adaptable` for a struct with named fields that are adaptable themselves, or for
/// an enum whose variants have one such field without a name, as Burn's `Module` wants them. Anything
/// else is a compile error.
///
/// | mark of a field | meaning |
/// | --- | --- |
/// | `#[adaptable(skip)]`, `#[module(skip)]` | the field is left out |
/// | `#[adaptable(show)]` | a field that is left out is visited and printed after all |
/// | `#[adaptable(name = "self")]` | the field's name in paths, if Rust does not allow it |
/// | `#[adaptable(around)]` | the field, a `LoraAdapter<Part>`, is the slot of the struct itself, not a part of it |
///
/// | mark of the whole model | meaning |
/// | --- | --- |
/// | `#[adaptable(model_type = "gpt2")]` | the architecture, as in `config.json` |
/// | `#[adaptable(input = "transformer.wte")]` | the path of the input embedding |
/// | `#[adaptable(output = "lm_head")]` | the path of the output embedding |
/// | `#[adaptable(untie = "untie")]` | the method that gives a tied output embedding its own weight |
/// | `#[adaptable(resize = "resize")]` | the method that changes the number of rows in the vocabulary |
/// | `#[adaptable(model_info = "info")]` | the method that describes what methods acting at the model need |
#[proc_macro_derive(Adaptable, attributes(adaptable, module))]
pub fn derive_adaptable(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

/// Gives a configuration the constant `KEY_DOCS`: the name in files and the documentation of every
/// field that serde reads. The schema of a training file shows them.
#[proc_macro_derive(KeyDocs, attributes(serde))]
pub fn derive_key_docs(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    key_docs::expand(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

fn expand(input: DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    let body = match &input.data {
        Data::Struct(data) => of_struct(&input.ident, &data.fields)?,
        Data::Enum(data) => of_enum(&input.ident, data)?,
        Data::Union(_) => {
            return Err(Error::new_spanned(
                &input.ident,
                "Adaptable can be derived for structs and enums only",
            ));
        }
    };
    let Body {
        visit,
        visit_mut,
        tree,
    } = body;
    let root = root_attributes(&input)?;
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();

    Ok(quote! {
        impl #generics ::burn_peft::Adaptable for #name #arguments #bounds {
            fn visit_slots(
                &self,
                path: &mut ::burn_peft::Path,
                visit: &mut dyn FnMut(&str, &dyn ::burn_peft::Slot),
            ) {
                #visit
            }
            fn visit_slots_mut(
                &mut self,
                path: &mut ::burn_peft::Path,
                visit: &mut dyn FnMut(&str, &mut dyn ::burn_peft::Slot),
            ) {
                #visit_mut
            }
            fn tree(&self) -> ::burn_peft::Tree {
                #tree
            }
            #root
        }
    })
}

/// The bodies of the trait's functions.
struct Body {
    visit: proc_macro2::TokenStream,
    visit_mut: proc_macro2::TokenStream,
    tree: proc_macro2::TokenStream,
}

fn of_struct(type_name: &Ident, fields: &Fields) -> syn::Result<Body> {
    let Fields::Named(fields) = fields else {
        return Err(Error::new_spanned(
            type_name,
            "Adaptable needs named fields: their names are the layers' names",
        ));
    };
    let mut around = Vec::new();
    let (mut visits, mut visits_mut, mut trees) = (Vec::new(), Vec::new(), Vec::new());
    for field in &fields.named {
        let marks = Marks::of(field)?;
        let name = field.ident.as_ref().expect("named field");
        if marks.around {
            around.push(name);
        } else if !marks.skip || marks.show {
            let key = marks.key(name);
            // At the field's type, so that the compiler reports there that it has no slots.
            let place = Span::call_site().located_at(field.ty.span());
            visits.push(quote_spanned! { place =>
                path.within(#key, |path| {
                    ::burn_peft::Adaptable::visit_slots(&self.#name, path, &mut *visit)
                });
            });
            visits_mut.push(quote_spanned! { place =>
                path.within(#key, |path| {
                    ::burn_peft::Adaptable::visit_slots_mut(&mut self.#name, path, &mut *visit)
                });
            });
            trees.push(quote_spanned! { place =>
                (#key, ::burn_peft::Adaptable::tree(&self.#name)),
            });
        }
    }
    let type_name = type_name.to_string();
    Ok(Body {
        visit: quote! {
            #( ::burn_peft::Adaptable::visit_slots(&self.#around, path, &mut *visit); )*
            #(#visits)*
        },
        visit_mut: quote! {
            #( ::burn_peft::Adaptable::visit_slots_mut(&mut self.#around, path, &mut *visit); )*
            #(#visits_mut)*
        },
        tree: quote! {
            let tree = ::burn_peft::Tree::node::<&str>(#type_name, [ #(#trees)* ]);
            #( let tree = self.#around.describe_around(tree); )*
            tree
        },
    })
}

/// Burn's enums have one module in each variant. The variant's name is a part of the path, as in
/// Burn's records.
fn of_enum(type_name: &Ident, data: &DataEnum) -> syn::Result<Body> {
    let type_name = type_name.to_string();
    let (mut visits, mut visits_mut, mut trees) = (Vec::new(), Vec::new(), Vec::new());
    for variant in &data.variants {
        let name = &variant.ident;
        let field = match &variant.fields {
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => &fields.unnamed[0],
            _ => {
                return Err(Error::new_spanned(
                    variant,
                    "Adaptable needs variants with one unnamed field, as Burn's Module does",
                ));
            }
        };
        let marks = Marks::of(field)?;
        if marks.around {
            return Err(Error::new_spanned(
                field,
                "`around` is for fields of structs",
            ));
        }
        if marks.skip && !marks.show {
            visits.push(quote! { Self::#name(_) => {} });
            visits_mut.push(quote! { Self::#name(_) => {} });
            trees.push(quote! { Self::#name(_) => ::burn_peft::Tree::Empty, });
            continue;
        }
        let key = marks.key(name);
        let place = Span::call_site().located_at(field.ty.span());
        visits.push(quote_spanned! { place =>
            Self::#name(module) => path.within(#key, |path| {
                ::burn_peft::Adaptable::visit_slots(module, path, &mut *visit)
            }),
        });
        visits_mut.push(quote_spanned! { place =>
            Self::#name(module) => path.within(#key, |path| {
                ::burn_peft::Adaptable::visit_slots_mut(module, path, &mut *visit)
            }),
        });
        trees.push(quote_spanned! { place =>
            Self::#name(module) => ::burn_peft::Tree::node::<&str>(
                #type_name,
                [(#key, ::burn_peft::Adaptable::tree(module))],
            ),
        });
    }
    Ok(Body {
        visit: quote! { match self { #(#visits)* } },
        visit_mut: quote! { match self { #(#visits_mut)* } },
        tree: quote! { match self { #(#trees)* } },
    })
}

/// The functions that only the model itself has, from `#[adaptable(key = "value")]`.
fn root_attributes(input: &DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    let mut functions = quote! {};
    for attribute in &input.attrs {
        if !attribute.path().is_ident("adaptable") {
            continue;
        }
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("model_info") {
                let function: Ident = meta.value()?.parse::<LitStr>()?.parse()?;
                functions.extend(quote! {
                    fn model_info(&self) -> Option<::burn_peft::ModelInfo> {
                        Some(self.#function())
                    }
                });
                return Ok(());
            }
            if meta.path.is_ident("untie") {
                let function: Ident = meta.value()?.parse::<LitStr>()?.parse()?;
                functions.extend(quote! {
                    fn untie_output(&mut self) -> bool {
                        self.#function();
                        true
                    }
                });
                return Ok(());
            }
            if meta.path.is_ident("resize") {
                let function: Ident = meta.value()?.parse::<LitStr>()?.parse()?;
                functions.extend(quote! {
                    fn resize_vocabulary(&mut self, rows: usize) -> bool {
                        self.#function(rows);
                        true
                    }
                });
                return Ok(());
            }
            let function = if meta.path.is_ident("model_type") {
                quote! { model_type }
            } else if meta.path.is_ident("input") {
                quote! { input_embedding }
            } else if meta.path.is_ident("output") {
                quote! { output_embedding }
            } else {
                return Err(meta.error(
                    "expected model_type, input, output, untie, resize or model_info = \"…\"",
                ));
            };
            let value: LitStr = meta.value()?.parse()?;
            functions.extend(quote! {
                fn #function(&self) -> &str { #value }
            });
            Ok(())
        })?;
    }
    Ok(functions)
}

/// The marks of a field.
#[derive(Default)]
struct Marks {
    skip: bool,
    show: bool,
    around: bool,
    name: Option<LitStr>,
}

impl Marks {
    /// The name of the field, or of the variant, in paths.
    fn key(&self, name: &Ident) -> String {
        match &self.name {
            Some(key) => key.value(),
            None => name.to_string().replace("r#", ""),
        }
    }

    fn of(field: &Field) -> syn::Result<Self> {
        let mut marks = Self::default();
        for attribute in &field.attrs {
            let is_ours = attribute.path().is_ident("adaptable");
            if !is_ours && !attribute.path().is_ident("module") {
                continue;
            }
            attribute.parse_nested_meta(|meta| {
                if is_ours && meta.path.is_ident("name") {
                    marks.name = Some(meta.value()?.parse()?);
                    return Ok(());
                }
                let mark = match meta.path.get_ident().map(Ident::to_string).as_deref() {
                    Some("skip") => &mut marks.skip,
                    Some("show") if is_ours => &mut marks.show,
                    Some("around") if is_ours => &mut marks.around,
                    _ if is_ours => {
                        return Err(meta.error("expected skip, show, around or name = \"…\""));
                    }
                    _ => return Ok(()),
                };
                *mark = true;
                Ok(())
            })?;
        }
        Ok(marks)
    }
}
