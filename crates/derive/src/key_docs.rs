//! `#[derive(KeyDocs)]`: the documentation of a configuration's keys.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Error, Expr, Fields, Lit, LitStr, Meta};

pub fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    let fields = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => &fields.named,
            fields => return Err(Error::new_spanned(fields, "KeyDocs needs named fields")),
        },
        _ => return Err(Error::new_spanned(&input.ident, "KeyDocs is for structs")),
    };
    let (mut keys, mut docs) = (Vec::new(), Vec::new());
    for field in fields {
        let Some(ident) = &field.ident else { continue };
        let mut key = ident.to_string();
        let mut is_skipped = false;
        for attribute in field.attrs.iter().filter(|a| a.path().is_ident("serde")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("skip") {
                    is_skipped = true;
                } else if meta.path.is_ident("rename") {
                    key = meta.value()?.parse::<LitStr>()?.value();
                } else if meta.input.peek(syn::Token![=]) {
                    meta.value()?.parse::<Expr>()?;
                }
                Ok(())
            })?;
        }
        if !is_skipped {
            keys.push(key);
            docs.push(doc(&field.attrs));
        }
    }
    let (name, (generics, arguments, bounds)) = (&input.ident, input.generics.split_for_impl());
    Ok(quote! {
        impl #generics #name #arguments #bounds {
            /// The documentation of each key, by its name in files.
            pub(crate) const KEY_DOCS: &'static [(&'static str, &'static str)] =
                &[ #((#keys, #docs)),* ];
        }
    })
}

/// The lines of a doc comment, without the space that begins each.
fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let Meta::NameValue(meta) = &attribute.meta else {
            return None;
        };
        match &meta.value {
            Expr::Lit(value) if meta.path.is_ident("doc") => match &value.lit {
                Lit::Str(line) => Some(line.value()),
                _ => None,
            },
            _ => None,
        }
    });
    let lines: Vec<_> = lines.map(|line| line.trim().to_string()).collect();
    lines.join("\n")
}
